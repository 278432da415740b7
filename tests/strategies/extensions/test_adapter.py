"""Adapters beside the MLPs of transformer blocks: what they compute, where they stand, and who has none."""

from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest

from small_fits import SIZE, small

# isort: split
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thawlab.backbones import stages as ruler
from thawlab.backbones.weights import draw_head
from thawlab.strategies.extensions import adapter
from thawlab.strategies.extensions.contract import Context
from thawlab.strategies.phases import Layers

TINY_SWIN = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "window_size": 4}
TINY_VIT = {"embed_dim": 32, "depth": 2, "num_heads": 2}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT": ("test_vit", {}),
    "with layer scale": ("deit3_small_patch16_224", TINY_VIT),
    "gammas in the block": ("beit_base_patch16_224", TINY_VIT),
    "tokens in a grid": ("swin_tiny_patch4_window7_224", TINY_SWIN),
    "norm after the MLP": ("swinv2_tiny_window8_256", TINY_SWIN),
    "one drop path for both branches": ("xcit_nano_12_p16_224", {"embed_dim": 32, "depth": 2, "num_heads": 2}),
    "MLP without fc1": ("eva02_tiny_patch14_224", TINY_VIT),
}
every_network = pytest.mark.parametrize("kind", NETWORKS)


def build(kind: str, **options: Any) -> nn.Module:
    name, plain = NETWORKS[kind]
    model = small(name, **plain, **options)
    draw_head(model)
    return model.eval()


def layers_of(model: nn.Module, frozen: int = 0) -> Layers:
    return Layers(tuple(ruler.stages(model)), ruler.head_parameters(model), frozen)


def extend(model: nn.Module, frozen: int = 0, dim: int = 8, scale: float = 0.1) -> Layers:
    settings = SimpleNamespace(dim=dim, scale=scale)
    return adapter.extend(model, layers_of(model, frozen), settings, Context("adapter", SIZE, None))


def draw_adapters(model: nn.Module) -> None:
    """They add zero at first; give them values of a size that shows."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, adapter.Adapter):
            for parameter in module.parameters():
                nn.init.normal_(parameter)


def images() -> Tensor:
    return torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))


@every_network
def test_at_first_nothing_changes(kind: str) -> None:
    model = build(kind)
    before = model(images())
    extend(model)
    assert torch.equal(model(images()), before)
    draw_adapters(model)
    assert not torch.allclose(model(images()), before, atol=1e-2)


@every_network
def test_every_added_parameter_gets_a_gradient_in_training(kind: str) -> None:
    model = build(kind, drop_path_rate=0.5)
    layers = extend(model)
    draw_adapters(model)
    model.train()(images()).sum().backward()
    now = dict(model.named_parameters())
    silent = [name for name in sorted(layers.added) if (grad := now[name].grad) is None or not grad.any()]
    assert silent == []


@every_network
def test_adapters_belong_to_the_stage_of_their_block(kind: str) -> None:
    model = build(kind)
    before, names = layers_of(model, 2), [name for name, _ in model.named_parameters()]
    after = extend(model, 2)
    now = [name for name, _ in model.named_parameters()]
    assert [name for name in now if name not in after.added] == names
    assert (after.head, after.frozen) == (before.head, before.frozen)
    assert after.stages[:2] == before.stages[:2]  # the freeze depth
    for old, new in zip(before.stages, after.stages, strict=True):
        assert old.name == new.name
        assert tuple(name for name in new.parameters if name not in after.added) == old.parameters
        assert list(new.parameters) == [name for name in now if name in set(new.parameters)]
        blocks = {name.partition(".norm2.")[0] for name in old.parameters if ".norm2." in name}
        adapted = {name.partition(".adapter.")[0] for name in new.parameters if name in after.added}
        # XCiT's class attention passes the class token alone through its MLP.
        fitting = {path for path in blocks if not path.startswith("cls_attn_blocks")}
        assert adapted == (fitting if new in after.stages[2:] else set())
    assert sorted(name for stage in after.stages for name in stage.parameters) == sorted(set(now) - set(after.head))


def test_a_block_s_output_gains_the_scaled_bottleneck_of_the_branch_s_input() -> None:
    model = build("ViT")
    extend(model, scale=0.3)
    draw_adapters(model)
    block: Any = model.get_submodule("blocks.0")
    x = torch.randn(2, 5, 64)
    out = block(x)
    parts = deepcopy(block)  # called one by one, which the hooks of the block itself would notice
    with torch.no_grad():
        own = block.adapter.state_dict()
        middle = x + parts.attn(parts.norm1(x))
        narrow = F.relu(middle @ own["down.weight"].T + own["down.bias"])
        expected = middle + parts.mlp.fc2(F.gelu(parts.mlp.fc1(parts.norm2(middle))))
        expected += 0.3 * (narrow @ own["up.weight"].T + own["up.bias"])
    torch.testing.assert_close(out, expected)


def test_layer_scale_does_not_shrink_what_is_added() -> None:
    model = build("with layer scale", init_values=1e-6)
    block = model.get_submodule("blocks.0")
    extend(model, scale=0.3)
    draw_adapters(model)
    x = torch.randn(2, 5, 32)
    own = block.get_submodule("adapter").state_dict()
    narrow = F.relu(x @ own["down.weight"].T + own["down.bias"])
    expected = x + 0.3 * (narrow @ own["up.weight"].T + own["up.bias"])
    torch.testing.assert_close(block(x), expected, atol=1e-3, rtol=1e-3)


def test_where_the_norm_comes_after_the_mlp_the_branch_s_input_is_the_mlp_s() -> None:
    model = build("norm after the MLP")
    extend(model, scale=0.3)
    draw_adapters(model)
    block: Any = model.get_submodule("layers.0.blocks.0")
    x = torch.randn(2, 8, 8, 16)
    seen: dict[str, Tensor] = {}
    handle = block.get_submodule("mlp").register_forward_pre_hook(lambda _, inputs: seen.update(x=inputs[0]))
    out = block(x)
    handle.remove()
    with torch.no_grad():
        own = block.get_submodule("adapter").state_dict()
        narrow = F.relu(seen["x"] @ own["down.weight"].T + own["down.bias"])
        gained = 0.3 * (narrow @ own["up.weight"].T + own["up.bias"])
        nn.init.zeros_(block.adapter.up.weight)
        nn.init.zeros_(block.adapter.up.bias)
    torch.testing.assert_close(out, block(x) + gained.view(2, 8, 8, 16))


def test_the_bottleneck_starts_at_zero_behind_random_directions() -> None:
    model = build("ViT")
    extend(model, dim=5)
    own = model.get_submodule("blocks.0.adapter").state_dict()
    assert {name: tuple(value.shape) for name, value in own.items()} == {
        "down.weight": (5, 64),
        "down.bias": (5,),
        "up.weight": (64, 5),
        "up.bias": (64,),
    }
    assert not any(own[name].any() for name in ("down.bias", "up.weight", "up.bias"))
    limit = 64**-0.5  # of kaiming_uniform_(a=√5): √(6 / ((1 + 5) · inputs))
    assert 0.9 * limit < own["down.weight"].abs().max() <= limit


@every_network
def test_a_copy_uses_adapters_of_its_own(kind: str) -> None:
    model = build(kind)
    extend(model)
    copy, before = deepcopy(model), model(images())
    draw_adapters(copy)
    assert torch.equal(model(images()), before)
    assert not torch.allclose(copy(images()), before, atol=1e-2)


def test_state_dicts_fit_networks_that_were_extended_alike() -> None:
    model, other = build("ViT"), build("ViT")
    extend(model)
    extend(other)
    draw_adapters(model)
    other.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(other(images()), model(images()))


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_efficientnet"])
def test_networks_without_transformer_blocks_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^strategy=adapter: adapters sit beside .*; use strategy=lora"):
        extend(small(name))


def test_a_freeze_depth_over_every_block_is_refused() -> None:
    model = build("ViT")
    with pytest.raises(ValueError, match="has none above the freeze depth"):
        extend(model, len(ruler.stages(model)))
