"""Pixels of any kind as 8-bit RGB in sRGB: depth, transparency, embedded colour profiles."""

import io
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

# Grey levels by which a profile may move a colour and still be sRGB, which its makers round in different ways.
_SAME = 2
_BAND = 4 << 20  # pixels that are converted at once, so that a large image takes no multiple of its memory
_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # of profiles, and the mode of the pixels they are for


def to_srgb(image: Image.Image) -> Image.Image:
    """A loaded image as 8-bit RGB.

    Transparency is laid on white. 16-bit grey is divided by 257, so that its full range becomes 0…255. Where a profile
    other than that of sRGB is embedded, colours are brought to sRGB; one that cannot be read, or that is for other
    pixels, is as good as none.

    Raises:
        ValueError: pixels without a defined range (floating point, 32-bit integers beyond 16 bits).
    """
    if image.width * image.height <= _BAND:
        return _converted(image)
    rgb = Image.new("RGB", image.size)
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        part = image.crop((0, top, image.width, min(top + rows, image.height)))
        rgb.paste(_converted(part), (0, top))
    return rgb


def check_pixels(image: Image.Image) -> None:
    """Refuse a loaded image that `to_srgb` refuses, in little memory.

    Raises:
        ValueError: as there.
    """
    if image.mode.startswith("I"):
        to_srgb(image)
    else:
        _converted(image.crop((0, 0, image.width, 1)))


def _converted(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = _grey16(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined range; convert the file to 8 or 16 bits")
    profile = image.info.get("icc_profile")
    to_rgb = _profile_transform(profile, image.mode) if isinstance(profile, bytes) else None
    if not image.has_transparency_data:
        return to_rgb(image) if to_rgb else image.convert("RGB")
    with_alpha = image.convert("RGBA")
    if to_rgb:
        alpha = with_alpha.getchannel("A")
        with_alpha = to_rgb(image if image.mode == "LA" else with_alpha)
        with_alpha.putalpha(alpha)
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, with_alpha).convert("RGB")


def _grey16(image: Image.Image) -> Image.Image:
    # Pillow's own conversion of these modes to 8 bits clips at 255 or drops the low byte, depending on its version.
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ValueError("32-bit pixels have no defined range; convert the file to 8 or 16 bits")
    grey = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    grey.info = {name: value for name, value in image.info.items() if name == "icc_profile"}
    return grey


@lru_cache(maxsize=64)
def _profile_transform(profile: bytes, mode: str) -> Callable[[Image.Image], Image.Image] | None:
    """What brings pixels of a mode from the colours of a profile to sRGB; None if nothing is to be done."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        profiled: Any = source.profile
        pixels = _SPACES.get(profiled.xcolor_space)
        if pixels is None or (pixels == "CMYK") != (mode == "CMYK") or (pixels == "L" and mode not in ("1", "L", "LA")):
            return None
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            pixels,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if pixels != "CMYK" and _changes_little(transform, pixels):
            return None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # a profile may be anything
        return None

    def to_rgb(image: Image.Image) -> Image.Image:
        converted = ImageCms.applyTransform(image if image.mode == pixels else image.convert(pixels), transform)
        assert converted is not None
        return converted

    return to_rgb


def _changes_little(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    if mode == "L":
        probe = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    else:
        steps = np.linspace(0, 255, 18).round().astype(np.uint8)
        probe = Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3))
    found = ImageCms.applyTransform(probe, transform)
    assert found is not None
    change = np.asarray(found).astype(int) - np.asarray(probe.convert("RGB")).astype(int)
    return bool(np.abs(change).max() <= _SAME)
