"""Every strategy on every kind of backbone: what it says it trains is what moves, and nothing else does."""

from pathlib import Path

import pytest

# isort: split
import timm
import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.swin_transformer import SwinTransformer
from tiny_runs import SIZE, configured, make_weights, moved, state_of
from torch import nn

from thawlab.backbones.freezing import batch_norms
from thawlab.config.schema import Config, ConfigError
from thawlab.strategies import contract
from thawlab.training.fit import fit
from thawlab.training.preparation import Prepared, prepare

STRATEGIES = contract.STRATEGIES.names()
BACKBONES = ["test_resnet", "tf_efficientnet_lite0", "test_vit", "test_convnext", "tiny_swin"]
# What a strategy has nothing to do on, by a word of the message that says so.
REFUSED = {
    ("adapter", "test_resnet"): "transformer",
    ("adapter", "tf_efficientnet_lite0"): "transformer",
    ("adapter", "test_convnext"): "transformer",
    ("stoch_norm", "test_vit"): "BatchNorm",
    ("stoch_norm", "test_convnext"): "BatchNorm",
    ("stoch_norm", "tiny_swin"): "BatchNorm",
}
SETTINGS = {
    "surgical": ["strategy.stage=2"],
    "transplant": ["transfer=2", "strategy.source=target"],
    "delta": ["strategy.attention_images=2"],
}

default_cfgs = generate_default_cfgs(
    {
        "tiny_swin.untrained": {
            "input_size": (3, SIZE, SIZE),
            "fixed_input_size": True,
            "num_classes": 5,
            "first_conv": "patch_embed.proj",
            "classifier": "head.fc",
        }
    }
)


@register_model
def tiny_swin(pretrained: bool = False, **options: object) -> nn.Module:
    """A Swin of three stages; the smallest that timm names has 28 M parameters."""
    shape = {"embed_dim": 16, "depths": (1, 2, 1), "num_heads": (1, 2, 4), "window_size": 4, "patch_size": 2}
    return build_model_with_cfg(SwinTransformer, "tiny_swin", pretrained, **shape, **options)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    sized = {"test_vit", "tiny_swin"}
    return {
        name: make_weights(folder / f"{name}.safetensors", name, **({"img_size": SIZE} if name in sized else {}))
        for name in BACKBONES
    }


def settings(images: Path, weights: Path, backbone: str, strategy: str) -> Config:
    config = configured(
        images,
        "backbone=test_resnet",  # in place of names that only this module knows
        f"backbone.checkpoint_path={weights}",
        f"strategy={strategy}",
        *SETTINGS.get(strategy, []),
        "epochs=3",
        "optimizer.lr=0.01",
    )
    return config.model_copy(update={"backbone": config.backbone.model_copy(update={"name": backbone})})


def statistics_that_may_move(prepared: Prepared) -> set[str]:
    """Names of the running statistics of the BatchNorm layers that some phase trains by the batch."""
    model, names = prepared.network.model, set()
    layers = {id(module) for module in batch_norms(model)}
    for path, module in model.named_modules():
        own = {f"{path}.{name}" for name, _ in module.named_parameters(recurse=False)}
        for phase in prepared.phases:
            if id(module) in layers and phase.batch_norm == "train" and own & (phase.parameters | set(phase.draw)):
                names |= {f"{path}.{name}" for name, _ in module.named_buffers(recurse=False)}
    return names


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_exactly_what_a_strategy_names_is_trained(strategy, backbone, images, weights, tmp_path):
    config = settings(images, weights[backbone], backbone, strategy)
    if (strategy, backbone) in REFUSED:
        with pytest.raises(ConfigError, match=REFUSED[strategy, backbone]) as raised:
            prepare(config)
        assert str(raised.value).startswith(f"strategy={strategy}: ")
        return
    prepared = prepare(config)
    before = state_of(prepared)
    fitted = fit(config, prepared, tmp_path)
    after = {name: value.cpu() for name, value in prepared.network.model.state_dict().items()}

    stated = frozenset().union(*(phase.parameters for phase in prepared.phases))
    parameters = {name for name, _ in prepared.network.model.named_parameters()}
    changed = moved(before, after)
    assert changed & parameters == stated
    assert changed - parameters <= statistics_that_may_move(prepared)
    assert fitted.cost["cost/trainable_params"] == sum(before[name].numel() for name in stated)
    assert all(torch.isfinite(value).all() for value in after.values())
    # What was audited in the phase that froze most: every parameter that it does not train, and statistics beside.
    assert fitted.audited >= max(len(parameters - phase.parameters) for phase in prepared.phases)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_is_kept_is_a_plain_model_with_the_output_of_the_trained_one(strategy, images, weights, tmp_path):
    backbone = "test_vit" if strategy == "adapter" else "tf_efficientnet_lite0"
    config = settings(images, weights[backbone], backbone, strategy)
    prepared = prepare(config)
    fit(config, prepared, tmp_path)
    model = prepared.network.model.cpu().eval()
    batch = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        trained = model(batch)
        prepared.plan.export()
        kept = model.eval()(batch)
    torch.testing.assert_close(kept, trained, rtol=1e-4, atol=1e-4)
    plain = timm.create_model(backbone, **prepared.network.options)
    assert (set(plain.state_dict()) == set(model.state_dict())) is (strategy != "adapter")
    assert prepared.plan.plain is (strategy != "adapter")
