"""LoRA beside the layers of small networks of every kind, and merged back into them."""

from copy import deepcopy
from typing import Any

import pytest
from pydantic import BaseModel

from small_fits import SIZE, changed, small, state_of

# isort: split
import torch
from timm.layers.std_conv import ScaledStdConv2d
from torch import Tensor, nn

from thawlab.backbones import stages as ruler
from thawlab.backbones.weights import draw_head
from thawlab.strategies.extensions import lora
from thawlab.strategies.extensions.contract import Context
from thawlab.strategies.phases import Layers

CONTEXT = Context("lora", SIZE, None)
SWIN = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "window_size": 4}
DAVIT = {"embed_dims": (16, 16, 32, 32), "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "window_size": 4}
BEIT = {"embed_dim": 32, "depth": 2, "num_heads": 2}
NETWORKS: dict[str, dict[str, Any]] = {
    "test_resnet": {},
    "test_efficientnet": {},
    "tf_efficientnet_lite0": {},  # pads by the size of the image
    "test_vit": {},
    "test_convnext": {},
    "swin_tiny_patch4_window7_224": SWIN,
    "beit_base_patch16_224": BEIT,
}
every_network = pytest.mark.parametrize("name", NETWORKS)


class Settings(BaseModel):
    rank: int = 4
    alpha: float = 8.0
    dropout: float = 0.0
    targets: str = "all"


def build(name: str) -> nn.Module:
    model = small(name, **NETWORKS[name])
    draw_head(model)
    return model.eval()


def layers_of(model: nn.Module, frozen: int = 0) -> Layers:
    return Layers(tuple(ruler.stages(model)), ruler.head_parameters(model), frozen, norms=frozenset({"norm.weight"}))


def extended(model: nn.Module, frozen: int = 0, **settings: Any) -> Layers:
    return lora.extend(model, layers_of(model, frozen), Settings(**settings), CONTEXT)


def draw_updates(model: nn.Module) -> None:
    """The updates are zero at first; give them values of a size that shows."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            nn.init.normal_(parameter, std=0.3)


def images(size: int = SIZE) -> Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(2))


def logits(model: nn.Module, size: int = SIZE) -> Tensor:
    with torch.no_grad():
        return model.eval()(images(size))


@every_network
def test_updates_of_rank_zero_change_nothing_and_trained_ones_are_merged(name: str) -> None:
    model = build(name)
    plain, at_first = state_of(model), logits(model)
    extended(model)
    assert torch.equal(logits(model), at_first)
    draw_updates(model)
    trained = logits(model)
    assert not torch.allclose(trained, at_first, atol=1e-2)
    lora.export(model)
    assert list(model.state_dict()) == list(plain)
    fresh = build(name)
    fresh.load_state_dict(model.state_dict(), strict=True)
    torch.testing.assert_close(logits(fresh), trained, atol=1e-4, rtol=1e-4)
    assert not any("lora" in type(module).__module__ for module in model.modules())


@every_network
def test_every_added_parameter_gets_a_gradient_in_training(name: str) -> None:
    model = build(name)
    layers = extended(model, dropout=0.1)
    draw_updates(model)
    model.train()(images()).sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert [name for name in sorted(layers.added) if gradients[name] is None] == []


@every_network
def test_stages_keep_their_parameters_under_the_names_they_have_now(name: str) -> None:
    model = build(name)
    before = layers_of(model, 2)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    after = lora.extend(model, before, Settings(), CONTEXT)
    assert (after.head, after.frozen, after.norms) == (before.head, before.frozen, before.norms)
    assert [stage.name for stage in after.stages] == [stage.name for stage in before.stages]
    assert after.stages[:2] == before.stages[:2]  # the freeze depth
    now = dict(model.named_parameters())
    assert sorted(now) == sorted([*(name for stage in after.stages for name in stage.parameters), *after.head])
    for old, new in zip(before.stages, after.stages, strict=True):
        own = [name for name in new.parameters if name not in after.added]
        assert [name.replace(".base_layer.", ".") for name in own] == list(old.parameters)
        assert [now[name].shape for name in own] == [shapes[name] for name in old.parameters]
        beside = {name.partition(".lora_")[0] + ".base_layer.weight" for name in new.parameters if name in after.added}
        assert beside == {name for name in new.parameters if name.endswith(".base_layer.weight")}
    assert all(parameter.requires_grad for parameter in now.values())


def test_what_is_merged_are_layers_above_the_freeze_depth_alone() -> None:
    model = build("test_resnet")
    plain, layers = state_of(model), layers_of(model, 3)
    extended(model, 3)
    draw_updates(model)
    lora.export(model)
    moved = changed(plain, model.state_dict())
    above = {name for stage in layers.stages[3:] for name in stage.parameters}
    assert moved
    assert moved == {name for name in above if plain[name].dim() == 4}


def test_padding_by_the_size_of_the_image_is_merged_exactly_at_other_sizes() -> None:
    # Kernels of 3 × 3 in stride 2 are padded on one side or both; those of lite0 are grouped but for the stem's.
    model = build("tf_efficientnet_lite0")
    layers = extended(model)
    assert "conv_stem.lora_A.default.weight" in layers.added
    draw_updates(model)
    unmerged = {size: logits(model, size) for size in (32, 33, 64)}
    lora.export(model)
    for size, expected in unmerged.items():
        torch.testing.assert_close(logits(model, size), expected, atol=1e-4, rtol=1e-4)


def test_convolutions_that_are_asked_for_their_stride_still_answer() -> None:
    model = small("davit_tiny", **DAVIT).eval()
    at_first = logits(model)
    extended(model)
    torch.testing.assert_close(logits(model), at_first, atol=1e-6, rtol=1e-5)  # summed in another order


def test_dilated_convolutions_are_merged_exactly() -> None:
    model = small("test_resnet", output_stride=8).eval()
    assert any(isinstance(module, nn.Conv2d) and module.dilation == (2, 2) for module in model.modules())
    extended(model)
    draw_updates(model)
    unmerged = logits(model, 64)
    lora.export(model)
    torch.testing.assert_close(logits(model, 64), unmerged, atol=1e-4, rtol=1e-4)


def test_a_linear_layer_gains_rank_times_inputs_and_outputs() -> None:
    model = build("test_vit")  # 64 features
    layers = extended(model, rank=5)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters() if name in layers.added}
    beside = [size for name, size in sizes.items() if name.startswith("blocks.0.attn.qkv.")]
    assert sum(beside) == 5 * (64 + 192)


def test_a_convolution_gains_rank_kernels_and_one_by_one_outputs() -> None:
    model = build("test_resnet")
    conv = model.get_submodule("layer3.0.conv2")
    assert isinstance(conv, nn.Conv2d)
    layers = extended(model, rank=5)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters() if name in layers.added}
    beside = [size for name, size in sizes.items() if name.startswith("layer3.0.conv2.")]
    assert sum(beside) == 5 * conv.in_channels * 3 * 3 + 5 * conv.out_channels


def test_updates_are_scaled_by_alpha_over_rank() -> None:
    model = build("test_vit")
    before = model.state_dict()["blocks.0.attn.qkv.weight"].clone()
    extended(model, rank=4, alpha=2.0)
    draw_updates(model)
    now = dict(model.named_parameters())
    down, up = (now[f"blocks.0.attn.qkv.lora_{part}.default.weight"].detach() for part in "AB")
    lora.export(model)
    torch.testing.assert_close(model.state_dict()["blocks.0.attn.qkv.weight"], before + up @ down * 0.5)


@pytest.mark.parametrize(("targets", "dimensions"), [("linear", {2}), ("conv", {4}), ("all", {2, 4})])
def test_targets_choose_between_linear_layers_and_convolutions(targets: str, dimensions: set[int]) -> None:
    model = build("test_convnext")
    layers = extended(model, targets=targets)
    now = dict(model.named_parameters())
    assert {now[name].dim() for name in layers.added} == dimensions


def test_layers_whose_weight_is_only_read_are_left_out() -> None:
    layers = extended(build("beit_base_patch16_224"))
    beside = {name.partition(".lora_")[0] for name in layers.added}
    assert {f"blocks.0.{path}" for path in ("attn.proj", "mlp.fc1", "mlp.fc2")} <= beside
    assert "blocks.0.attn.qkv" not in beside


def test_grouped_convolutions_and_the_head_are_left_out() -> None:
    model = build("test_efficientnet")
    layers = extended(model)
    for path in {name.partition(".lora_")[0] for name in layers.added}:
        base = model.get_submodule(f"{path}.base_layer")
        assert isinstance(base, nn.Conv2d)
        assert base.groups == 1
    assert type(model.get_classifier()) is nn.Linear  # type: ignore[operator]


def test_convolutions_that_standardise_their_weight_are_left_out() -> None:
    model = small("test_nfnet")
    assert any(isinstance(module, ScaledStdConv2d) for module in model.modules())
    layers = extended(model)
    bases = [model.get_submodule(name.partition(".lora_")[0]).base_layer for name in layers.added]
    assert {type(base) for base in bases} == {nn.Conv2d}  # of its attention over channels


def test_a_layer_whose_path_only_ends_like_a_target_s_is_left_out() -> None:
    model = build("test_vit")
    model.add_module("other", deepcopy(model.get_submodule("blocks")))
    forward = model.forward
    model.forward = lambda images: forward(images) + model.other[0](torch.zeros(1, 1, 64)).sum()  # type: ignore
    layers = Layers(tuple(ruler.stages(small("test_vit"))), ("head.weight", "head.bias"), 0)
    layers = lora.extend(model, layers, Settings(), CONTEXT)
    assert {name.partition(".")[0] for name in layers.added} == {"blocks", "patch_embed"}


def test_a_copy_has_updates_of_its_own() -> None:
    model = build("test_vit")
    extended(model)
    copy, before = deepcopy(model), logits(model)
    draw_updates(copy)
    assert torch.equal(logits(model), before)
    assert not torch.allclose(logits(copy), before, atol=1e-2)


def test_modes_and_gradients_are_as_they_were() -> None:
    model = small("test_resnet").train()
    model.get_submodule("layer1").eval()
    model.get_submodule("layer2").requires_grad_(False)
    modes = {path: module.training for path, module in model.named_modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    extended(model, targets="conv", frozen=2)
    assert {path: module.training for path, module in model.named_modules() if path in modes} == modes
    frozen = small("test_resnet").eval()
    extended(frozen, dropout=0.5)
    assert not any(module.training for module in frozen.modules() if isinstance(module, nn.Dropout))
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())
    assert not model.get_submodule("layer2.0.bn1").weight.requires_grad
    assert model.get_submodule("layer1.0.bn1").weight.requires_grad


def test_a_freeze_depth_that_leaves_no_target_is_refused() -> None:
    model = build("test_resnet")
    depth = len(ruler.stages(model))
    with pytest.raises(ValueError, match=r"^strategy=lora: targets=all finds no layer .*; freeze fewer stages"):
        extended(model, depth)
    with pytest.raises(ValueError, match="targets=linear finds no layer"):
        extended(model, targets="linear")
