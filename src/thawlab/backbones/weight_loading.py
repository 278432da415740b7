"""Weights put into a network, all of them or none, and what is said of those that do not fit."""

from collections.abc import Mapping

import timm
import torch
from torch import Tensor, nn

from thawlab.backbones.stages import head_parameters

# What weights may belong to, by a name that stands among them; such a look costs about half a second each.
KIN = {
    "layer1.0.conv1.weight": ("resnet18", "resnet34", "resnet50", "resnet101"),
    "blocks.0.attn.qkv.weight": ("vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224"),
    "stages.0.blocks.0.conv_dw.weight": ("convnext_tiny", "convnext_small", "convnext_base"),
    "conv_stem.weight": ("tf_efficientnet_lite0", "efficientnet_b0", "mobilenetv2_100", "mobilenetv3_large_100"),
    "features.0.weight": ("vgg16", "vgg19"),
    "features.conv0.weight": ("densenet121",),
}
# So few entries that differ are a network changed or cut, not another architecture of timm's.
_FEW = 5
# Counted in training, without a part in what a trained network computes; older files lack it.
_COUNT = "num_batches_tracked"


def load(model: nn.Module, state: Mapping[str, Tensor], told: str) -> None:
    """Load weights of the same architecture; the head's are left out, since the classes are others.

    Raises:
        ValueError: an entry is missing, not the network's, or of another shape; nothing was loaded.
    """
    head, own = head_entries(model), model.state_dict()
    kept = {name: value for name, value in state.items() if name not in head}
    expected = own.keys() - head
    counts = {name: own[name] for name in expected - kept.keys() if name.rpartition(".")[2] == _COUNT}
    if len(counts) < len(expected - kept.keys()) or kept.keys() - expected or _other_shapes(own, kept):
        raise ValueError(f"{told}: {_difference(own, kept, expected)}{_belongs(kept, own)}")
    model.load_state_dict({**counts, **kept, **{name: own[name] for name in head}}, strict=True)


def head_entries(model: nn.Module) -> set[str]:
    """Names in the state_dict of all that belongs to the head, buffers included."""
    parameters = set(head_parameters(model))
    owners = {name.rpartition(".")[0] for name in parameters} - {""}
    return parameters | {name for name in model.state_dict() if name.rpartition(".")[0] in owners}


def _other_shapes(own: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> list[str]:
    return sorted(name for name in own.keys() & kept.keys() if own[name].shape != kept[name].shape)


def _difference(own: Mapping[str, Tensor], kept: Mapping[str, Tensor], expected: set[str]) -> str:
    groups = {
        "missing": sorted(expected - kept.keys()),
        "unknown": sorted(kept.keys() - expected),
        "of another shape": _other_shapes(own, kept),
    }
    parts = [f"{len(found)} {title} ({', '.join(found[:3])}…)" for title, found in groups.items() if found]
    return f"weights of another architecture: of {len(expected)} entries, {'; '.join(parts)}"


def _belongs(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """The architecture whose names and shapes these are, among a few, as a remedy."""
    kin = [] if len(state.keys() ^ own.keys()) <= _FEW else next((KIN[mark] for mark in KIN if mark in state), [])
    for name in kin:
        theirs = _shapes(name)
        fitting = sum(name in state and state[name].shape == value.shape for name, value in theirs.items())
        if fitting >= len(theirs) - 2 and len(state) <= len(theirs) + 2:  # two: the classifier
            return f"; they fit {name}: use backbone={name}, or other weights"
    return "; name the architecture that they were trained with by backbone=NAME, or use other weights"


def _shapes(name: str) -> Mapping[str, Tensor]:
    with torch.device("meta"):
        return timm.create_model(name).state_dict()
