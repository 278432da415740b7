"""The freeze boundary of a run: where the network is cut, and the precision up to there while the cache is filled."""

from dataclasses import dataclass

import torch
from torch import Tensor

from thawlab.backbones.cut.find import Cut
from thawlab.config.schema import Config
from thawlab.training.cache.half_precision import MOST, Context, difference, in_bfloat16, in_hardware
from thawlab.training.trainer import precision_name

_NO_HARDWARE = "has no bfloat16 in hardware (AVX512-BF16, AMX)"


@dataclass(frozen=True)
class Boundary:
    """What an entry of the cache is computed by.

    Attributes:
        cut: the network in two halves.
        context: what the first of them runs in.
        dtypes: in which its features come out.
        half: whether it is computed in bfloat16 where training is not.
        notes: what the user should know of that, as sentences.
    """

    cut: Cut
    context: Context
    dtypes: tuple[torch.dtype, ...]
    half: bool = False
    notes: tuple[str, ...] = ()


def boundary(config: Config, cut: Cut, stage: str, images: Tensor, context: Context) -> Boundary:
    """The boundary at a cut, in the precision that `cache.compute` asks for, if images show that it serves.

    Args:
        config: of the run.
        cut: which has been verified in training's precision.
        stage: the last one that is stored.
        images: (B, 3, H, W), on the device and in the memory format that are going to be used.
        context: what a forward pass of training's precision runs in.
    """
    exact = Boundary(cut, context, tuple(each.dtype for each in cut.features))
    wanted, device = config.cache.compute, images.device
    if wanted == "float32" or precision_name(config.trainer) != "32-true":
        return exact
    where = "this GPU" if device.type == "cuda" else "this processor"
    quick = in_hardware(device)
    if wanted == "auto" and not quick:
        return _noted(exact, f"cache.compute=auto: frozen stages are computed in float32, since {where} {_NO_HARDWARE}")
    half = in_bfloat16(device)
    found = difference(cut, images, context, half)
    told = f"features of {len(images)} images {{}} by {found.features:.2%}, logits by {found.logits:.2%} of how much "
    told += "they vary from image to image"
    if not found.serves:
        return _noted(
            exact,
            f"cache.compute={wanted}: {stage} and what lies before it are computed in float32, since in bfloat16 the "
            f"{told.format('would differ')}, where {MOST:.0%} are allowed",
        )
    with torch.no_grad(), half():
        dtypes = tuple(each.dtype for each in cut.prefix(images))
    slow = () if quick else (f"cache.compute=bfloat16: {where} {_NO_HARDWARE}: float32 is many times as fast",)
    used = f"{stage} and what lies before it are computed in bfloat16: {told.format('differ')}"
    return Boundary(cut, half, dtypes, True, (*slow, used))


def _noted(found: Boundary, note: str) -> Boundary:
    return Boundary(found.cut, found.context, found.dtypes, found.half, (note,))
