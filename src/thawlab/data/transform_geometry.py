"""What a transform asks of an image's size, and how much of it is the same in every epoch."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image
from timm.data.transforms import CenterCropOrPad, RandomResizedCropAndInterpolation, ResizeKeepRatio
from torchvision.transforms import CenterCrop, Compose, Resize

from thawlab.data.transforms import Middle, Transform


def least_side(transform: Transform) -> int | None:
    """Pixels that the short side of an image needs for nothing to be enlarged that would not be anyway; None: unknown.

    For a random crop it is the side at which the smallest crop has as many pixels as the output: for half of the area
    and 128 pixels 210, since a crop may also be narrower than the image by a factor of three quarters.
    """
    steps = transform.transforms if isinstance(transform, Compose) else []
    first = next((step for step in steps if not isinstance(step, Middle)), None)
    if isinstance(first, RandomResizedCropAndInterpolation):
        smallest = first.scale[0] * min(first.ratio[0], 1 / first.ratio[1])  # share of the area, were the image square
        return math.ceil(max(first.size) / math.sqrt(smallest))
    if isinstance(first, Resize | ResizeKeepRatio) and _is_fixed(first):
        size: Any = first.size
        return int(max(size)) if isinstance(size, list | tuple) else int(size)
    return None


def split_transform(transform: Transform) -> tuple[tuple[Callable[[Image.Image], Image.Image], ...], Transform]:
    """The leading steps that change an image in the same way in every epoch, and a transform of what remains."""
    if not isinstance(transform, Compose):
        return (), transform
    steps = list(transform.transforms)
    count = next((i for i, step in enumerate(steps) if not _is_fixed(step)), len(steps))
    return tuple(steps[:count]), Compose(steps[count:])


def output_size(steps: tuple[Callable[[Image.Image], Image.Image], ...]) -> tuple[int, int] | None:
    """Height and width that steps of `split_transform` end with, where it is the same for every image."""
    last = steps[-1] if steps else None
    if isinstance(last, CenterCrop | CenterCropOrPad):
        size: Any = last.size
        return (size, size) if isinstance(size, int) else (size[0], size[1])
    return None


@dataclass(frozen=True)
class Shrink:
    """Makes an image smaller, so that its short side has `side` pixels; a smaller one stays as it is."""

    side: int

    def __call__(self, image: Image.Image) -> Image.Image:
        short = min(image.size)
        if short <= self.side:
            return image
        width, height = (max(self.side, round(length * self.side / short)) for length in image.size)
        return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=None)


def _is_fixed(step: object) -> bool:
    if isinstance(step, ResizeKeepRatio):
        return not step.random_scale_prob and not step.random_aspect_prob and not isinstance(step.interpolation, tuple)
    return isinstance(step, Middle | Resize | CenterCrop | CenterCropOrPad)
