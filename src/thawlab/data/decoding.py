"""Any image file as an upright 8-bit RGB image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

_ORIENTATION = 0x0112  # the EXIF tag
# Not ImageOps.exif_transpose: it also rewrites the remaining EXIF data and fails where a camera wrote that badly.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(source: str | Path | BinaryIO, *, coarse: bool = False) -> Image.Image:
    """Decode the first frame of an image file to upright 8-bit RGB.

    Transparency is laid on white. 16-bit grey is divided by 257, so that its full range becomes 0…255.

    With `coarse` a JPEG comes out at an eighth of its size: that still reads every byte and finds the same damage, in
    half the time.

    Raises:
        Exception: whatever Pillow's decoder raises on damaged data, mostly OSError.
        ValueError: pixels without a defined range (floating point, 32-bit integers beyond 16 bits).
    """
    with Image.open(source) as image:
        if coarse:
            image.draft(image.mode, (1, 1))
        image.load()  # first, since some decoders (TIFF) turn the image upright themselves and drop the tag
        upright = _UPRIGHT.get(_orientation(image))
        rgb = _to_rgb(image)
    return rgb if upright is None else rgb.transpose(upright)


@dataclass(frozen=True)
class FileReader:
    """Reads the i-th of some image files; the `read` of a split."""

    paths: Sequence[str]

    def __call__(self, position: int) -> Image.Image:
        return decode(self.paths[position])


@dataclass(frozen=True, eq=False)
class ArrayReader:
    """Reads the i-th of some grey images held in memory; the `read` of a split."""

    images: np.ndarray  # (n, H, W) uint8

    def __call__(self, position: int) -> Image.Image:
        return Image.fromarray(self.images[position]).convert("RGB")


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # unreadable EXIF data raises anything, and leaves the picture itself intact
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _grey16(image).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined range; convert the file to 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _grey16(image: Image.Image) -> Image.Image:
    # Pillow's own conversion of these modes to 8 bits clips at 255 or drops the low byte, depending on its version.
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ValueError("32-bit pixels have no defined range; convert the file to 8 or 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))
