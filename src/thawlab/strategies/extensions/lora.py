"""LoRA (Hu et al. 2021): the layers above the freeze depth learn updates of low rank beside their own weights, by PEFT.

The updates start at zero, and at the end they are added to the weights that they stand beside.
"""

import re
from collections.abc import Collection
from dataclasses import replace

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.linear import Linear as TimmLinear
from torch import nn

from thawlab.backbones.stages import Stage
from thawlab.strategies.extensions.contract import Context
from thawlab.strategies.lora import Settings
from thawlab.strategies.phases import Layers

# Exact types: a subclass that standardises its weight, for instance, is not linear in it, and nothing could be merged.
_LINEAR = (nn.Linear, TimmLinear)
_CONV = (nn.Conv2d, Conv2dSame)
_TARGETS = {"all": (*_LINEAR, *_CONV), "linear": _LINEAR, "conv": _CONV}

# What PEFT puts between a layer's path and the name of a parameter.
_INFIX = re.compile(r"\.(base_layer|lora_[AB]\.default)\.(?=\w+$)")


def extend(model: nn.Module, layers: Layers, settings: Settings, context: Context) -> Layers:
    """Put a pair of small layers beside every linear layer and convolution above the freeze depth that can take one.

    Raises:
        ValueError: there is none.
    """
    above = {name for stage in layers.trainable for name in stage.parameters}
    called = _called(model, context.image_size)
    paths = _paths(model, _TARGETS[settings.targets])
    targets = [path for path in paths if path in called and f"{path}.weight" in above]
    if not targets:
        raise ValueError(
            f"strategy={context.strategy}: targets={settings.targets} finds no layer above the freeze depth that can "
            "take an update of low rank; freeze fewer stages, use targets=all, or strategy=finetune"
        )
    _inject(model, targets, settings)
    return _renamed(model, layers)


def export(model: nn.Module) -> None:
    """Add the updates to the weights and take the pairs out."""
    from peft.tuners.lora import LoraLayer

    for path, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            model.set_submodule(path, module.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config


def _paths(model: nn.Module, types: Collection[type[nn.Module]]) -> list[str]:
    """Paths of the layers of these types that have one path and an update of low rank that can be merged."""
    modules = list(model.named_modules(remove_duplicate=False))
    seen = [id(module) for _, module in modules]
    return [
        path
        for path, module in modules
        if type(module) in types
        and seen.count(id(module)) == 1
        # A kernel of a group has too few inputs for a low rank to save anything, and PEFT cannot merge it.
        and not (isinstance(module, nn.Conv2d) and (module.groups > 1 or module.padding_mode != "zeros"))
    ]


def _called(model: nn.Module, image_size: int) -> set[str]:
    """Paths of the modules that a forward pass calls.

    Some blocks, such as BEiT's attention, read a layer's weight and compute with it themselves: what stands beside that
    layer would never be used.
    """
    called: set[str] = set()
    handles = [
        module.register_forward_pre_hook(lambda _module, _inputs, path=path: called.add(path))
        for path, module in model.named_modules()
    ]
    forward_once(model, image_size)
    for handle in handles:
        handle.remove()
    return called


def forward_once(model: nn.Module, image_size: int) -> None:
    """A forward pass of one blank image in eval mode that leaves no trace, for hooks to see what happens in it."""
    training = [module for module in model.modules() if module.training]
    first = next(model.parameters())
    model.eval()
    with torch.no_grad():
        model(torch.zeros(1, 3, image_size, image_size, device=first.device, dtype=first.dtype))
    for module in training:
        module.training = True


def _inject(model: nn.Module, targets: list[str], settings: Settings) -> None:
    from peft import LoraConfig, inject_adapter_in_model  # takes seconds, and only this strategy needs it
    from peft.tuners.lora import LoraLayer

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # pyright: ignore[reportArgumentType]  (it is only divided by the rank)
        lora_dropout=settings.dropout,
        # A pattern must match the whole path; names in a list would match the ends of other paths, too.
        target_modules="|".join(map(re.escape, targets)),
    )
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    inject_adapter_in_model(config, model)
    for parameter in trained:
        parameter.requires_grad_(True)  # PEFT has frozen all but its own
    for module in list(model.modules()):
        if isinstance(module, LoraLayer) and isinstance(module, nn.Module):
            base = module.get_base_layer()
            module.train(base.training)
            if isinstance(base, nn.Conv2d):
                # PEFT copies type, stride and padding of the convolution, but not its dilation.
                narrow = module.lora_A["default"]
                assert isinstance(narrow, nn.Conv2d)
                narrow.dilation = base.dilation
                for key in ("kernel_size", "stride", "padding", "dilation", "groups"):  # DaViT asks for them
                    setattr(module, key, getattr(base, key))


def _renamed(model: nn.Module, layers: Layers) -> Layers:
    """The layers under the names of the extended model; what is new belongs to the stage of the layer it is beside."""
    place = {name: index for index, stage in enumerate(layers.stages) for name in stage.parameters}
    now: list[list[str]] = [[] for _ in layers.stages]
    added = []
    for name, _ in model.named_parameters():
        before = _INFIX.sub(".", name)
        if before in place:
            now[place[before]].append(name)
        if ".lora_" in name:
            added.append(name)
    stages = tuple(Stage(stage.name, tuple(names)) for stage, names in zip(layers.stages, now, strict=True))
    return replace(layers, stages=stages, added=layers.added | frozenset(added))
