"""AdaptFormer (Chen et al. 2022): a small bottleneck in parallel to the MLP of each block above the freeze depth.

The blocks keep their modules and names, and each gains a submodule `adapter` that hooks into its forward pass.
"""

import math
from dataclasses import replace

import torch.nn.functional as F
from timm.layers.norm import LayerNorm2d, RmsNorm2d
from torch import Size, Tensor, nn
from torch.utils.hooks import RemovableHandle

from thawlab.backbones.stages import Stage
from thawlab.strategies.adapter import Settings
from thawlab.strategies.extensions.contract import Context
from thawlab.strategies.extensions.lora import forward_once
from thawlab.strategies.phases import Layers


class Adapter(nn.Module):
    """What a block's output gains: scale · Up(ReLU(Down(x))), where x is what the MLP's branch takes, before its norm.

    The hooks are methods of this module, so that in a copy of the block they are the copy's.
    """

    def __init__(self, features: int, dim: int, scale: float) -> None:
        super().__init__()
        self.down = nn.Linear(features, dim)
        self.up = nn.Linear(dim, features)
        self.scale = scale
        self._input: Tensor | None = None  # from the start of the MLP's branch to its end
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for parameter in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.up(F.relu(self.down(x)))

    def take_input(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Before norm and MLP: whichever runs first has the branch's input."""
        if self._input is None:
            self._input = inputs[0]

    def add_output(self, _module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """After the branch's drop path, so that neither layer scale nor stochastic depth acts on what is added.

        A drop path that serves attention, too, first comes by when no input was taken, and then nothing is added.
        """
        if self._input is None:
            return output
        x, self._input = self._input, None
        return output + self(x)


def extend(model: nn.Module, layers: Layers, settings: Settings, context: Context) -> Layers:
    """Put an adapter into every transformer block above the freeze depth.

    Raises:
        ValueError: there is none.
    """
    place = {name: index for index, stage in enumerate(layers.stages) for name in stage.parameters}
    blocks = {path: features for path, block in model.named_modules() if (features := _features(block))}
    stage_of = {path: _stage(model, path, place) for path in blocks}
    fitting = _fitting(model, blocks, context.image_size)
    above = [path for path in blocks if path in fitting and stage_of[path] >= layers.frozen]
    if not above:
        raise ValueError(
            f"strategy={context.strategy}: adapters sit beside the MLP of transformer blocks, and this backbone has "
            "none above the freeze depth; use strategy=lora, which takes every backbone"
        )
    added: list[list[str]] = [[] for _ in layers.stages]
    for path in above:
        block = model.get_submodule(path)
        adapter = _insert(block, blocks[path], settings)
        added[stage_of[path]] += [f"{path}.adapter.{name}" for name, _ in adapter.named_parameters()]
    order = {name: index for index, (name, _) in enumerate(model.named_parameters())}
    stages = tuple(
        Stage(stage.name, tuple(sorted([*stage.parameters, *new], key=order.__getitem__)))
        for stage, new in zip(layers.stages, added, strict=True)
    )
    return replace(layers, stages=stages, added=layers.added | {name for new in added for name in new})


def _insert(block: nn.Module, features: int, settings: Settings) -> Adapter:
    adapter = Adapter(features, settings.dim, settings.scale)
    parameter = next(block.parameters())
    adapter.to(parameter.device, parameter.dtype).train(block.training)
    block.add_module("adapter", adapter)
    block.get_submodule("norm2").register_forward_pre_hook(adapter.take_input)
    block.get_submodule("mlp").register_forward_pre_hook(adapter.take_input)
    _drop_path(block).register_forward_hook(adapter.add_output)
    return adapter


def _features(block: nn.Module) -> int | None:
    """Width of the tokens that a transformer block works on, in their last dimension; None for any other module."""
    children = dict(block.named_children())
    if not {"attn", "norm2", "mlp"} <= children.keys() or not children.keys() & {"drop_path", "drop_path2"}:
        return None
    norm, first = children["norm2"], getattr(children["mlp"], "fc1", None)
    if isinstance(first, nn.Linear):
        return first.in_features
    if first is not None or isinstance(norm, LayerNorm2d | RmsNorm2d):  # on feature maps (B, C, H, W)
        return None
    shape = getattr(norm, "normalized_shape", None)
    return shape[-1] if shape else None


def _fitting(model: nn.Module, blocks: dict[str, int], image_size: int) -> set[str]:
    """The blocks whose MLP gets all that its branch takes and gives back, as tokens of the width that is expected.

    XCiT's class attention, for instance, passes the class token alone through the MLP of its branch.
    """
    seen: dict[str, list[Size]] = {path: [] for path in blocks}
    handles = [handle for path in blocks for handle in _watch(model.get_submodule(path), seen[path])]
    forward_once(model, image_size)
    for handle in handles:
        handle.remove()
    return {path for path, s in seen.items() if len(s) >= 3 and len(set(s)) == 1 and s[0][-1] == blocks[path]}


def _watch(block: nn.Module, shapes: list[Size]) -> list[RemovableHandle]:
    """Hooks that note the shapes of what goes into norm and MLP, and of what ends their branch."""

    def begins(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        shapes.append(inputs[0].shape)

    def ends(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if shapes:  # before, it was attention's branch
            shapes.append(output.shape)

    starts = [block.get_submodule(name).register_forward_pre_hook(begins) for name in ("norm2", "mlp")]
    return [*starts, _drop_path(block).register_forward_hook(ends)]


def _drop_path(block: nn.Module) -> nn.Module:
    children = dict(block.named_children())
    return children["drop_path2"] if "drop_path2" in children else children["drop_path"]


def _stage(model: nn.Module, path: str, place: dict[str, int]) -> int:
    """The stage that the block's MLP is in."""
    names = (f"{path}.mlp.{name}" for name, _ in model.get_submodule(f"{path}.mlp").named_parameters())
    return next((place[name] for name in names if name in place), -1)
