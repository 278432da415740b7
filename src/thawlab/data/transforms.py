"""From an upright RGB image to the network's input, by timm's own transforms."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from timm.data.transforms_factory import create_transform
from torchvision.transforms import Compose, Resize

Transform = Callable[[Image.Image], torch.Tensor]  # RGB image -> (3, size, size) float32, normalised

# What `timm.data.resolve_data_config` also returns is the size, which is ours to choose.
_EVAL_KEYS = ("interpolation", "mean", "std", "crop_pct", "crop_mode")
_TRAIN_KEYS = ("interpolation", "mean", "std")
# Length of an image in widths up to which it is resized as a whole: at 256 pixels to 4 million.
_MOST_RATIO = 64
# What may stand behind the name of one of timm's policies, each with a number.
_POLICIES = {
    "rand": ("m", "n", "p", "inc", "mstd", "mmax"),
    "augmix": ("m", "w", "d", "a", "b", "mstd"),
    **dict.fromkeys(("original", "originalr", "v0", "v0r", "3a"), ("mstd",)),
}


@dataclass(frozen=True)
class Middle:
    """Leaves of an image more than `ratio` times as long as wide the middle that is that long; others stay as they are.

    A resize of the short side to the size of the output makes a strip of 20,000 × 4 pixels a gigabyte, of which the
    crop that follows takes the middle. Any output whose crop is no wider than `ratio` is the same, but for rounding.
    """

    ratio: int

    def __call__(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        most = self.ratio * min(width, height)
        if max(width, height) <= most:
            return image
        begin = (max(width, height) - most) // 2
        box = (begin, 0, begin + most, height) if width > height else (0, begin, width, begin + most)
        return image.crop(box)


def eval_transform(preprocessing: Mapping[str, Any], size: int) -> Compose:
    """The preprocessing that goes with the weights: resize, middle crop, normalise.

    The share that the crop keeps (`crop_pct`) is that of the weights at every size, as in timm.

    Args:
        preprocessing: as `timm.data.resolve_data_config` returns it.
        size: pixels a side of the output.
    """
    transform = create_transform((3, size, size), **{key: preprocessing[key] for key in _EVAL_KEYS})
    assert isinstance(transform, Compose)
    return Compose([Middle(_MOST_RATIO), *transform.transforms]) if _resizes_short_side(transform) else transform


_NO_POLICY = "timm has no such policy; use one such as rand-m7-mstd0.5-inc1, augmix-m3-w3, original or v0"


def train_transform(
    preprocessing: Mapping[str, Any],
    size: int,
    *,
    crop_scale: float,
    hflip: float,
    vflip: float,
    color_jitter: float,
    auto_augment: str | None,
    random_erasing: float,
) -> Compose:
    """Random changes, then the same normalisation as in evaluation.

    Args:
        preprocessing: as `timm.data.resolve_data_config` returns it.
        size: pixels a side of the output.
        crop_scale: smallest share of the area that a random crop keeps, in (0, 1]. 1 means no random crop but
            evaluation's resize and middle crop: with all else off, this is `eval_transform`.
        hflip: probability of a mirror image.
        vflip: probability of turning it upside down.
        color_jitter: strength of random brightness, contrast and saturation; timm leaves it out beside auto_augment.
        auto_augment: timm's policy string, such as "rand-m7-mstd0.5-inc1".
        random_erasing: probability of filling a random box with noise.

    Raises:
        ValueError: timm has no such policy.
    """
    try:
        _check_policy(auto_augment)
        augmented = create_transform(
            (3, size, size),
            is_training=True,
            scale=(crop_scale, 1.0),
            hflip=hflip,
            vflip=vflip,
            color_jitter=color_jitter or None,  # type: ignore[arg-type] (timm tests for None)
            auto_augment=auto_augment,
            re_prob=random_erasing,
            re_mode="pixel",
            **{key: preprocessing[key] for key in _TRAIN_KEYS},
        )
    except (ValueError, KeyError) as error:
        raise ValueError(f"augment.auto_augment={auto_augment}: {_NO_POLICY}") from error
    assert isinstance(augmented, Compose)
    if crop_scale < 1:
        return augmented
    # timm's random crop still changes the aspect ratio at scale 1, so evaluation's geometry takes its place.
    geometry = eval_transform(preprocessing, size).transforms[:-2]
    return Compose([*geometry, *augmented.transforms[1:]])


def _check_policy(policy: str | None) -> None:
    """As timm does it, which asserts: `python -O` would let pass any name, to fail at the first image."""
    name, *sections = (policy or "v0").split("-")
    keys = [re.split(r"\d", each)[0] for each in sections if re.search(r"\d", each)]
    allowed = _POLICIES[name]
    if any(key not in allowed and not (name == "rand" and key.startswith("t")) for key in keys):
        raise ValueError(policy)


def _resizes_short_side(transform: Compose) -> bool:
    first = transform.transforms[0]
    return isinstance(first, Resize) and (isinstance(first.size, int) or len(first.size) == 1)
