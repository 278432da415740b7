"""Any image file as an upright 8-bit RGB image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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

# A reduced JPEG keeps at least this many times the pixels a side that the transform needs: what the resize that follows
# makes of it then differs by 0.9 of 255 grey levels on photographs, at 1 by 2.7. A linear probe is as accurate.
DRAFT_MARGIN = 2


def decode(source: str | Path | BinaryIO, *, coarse: bool = False, least: int | None = None) -> Image.Image:
    """Decode the first frame of an image file to upright 8-bit RGB.

    Transparency is laid on white. 16-bit grey is divided by 257, so that its full range becomes 0…255.

    With `coarse` a JPEG comes out at an eighth of its size: that still reads every byte and finds the same damage, in
    half the time.

    With `least` a JPEG may come out at a half, a quarter or an eighth of its size, in the fraction of the time, as long
    as its short side keeps that many pixels. Other formats have no such way and come out whole.

    Raises:
        Exception: whatever Pillow's decoder raises on damaged data, mostly OSError.
        ValueError: pixels without a defined range (floating point, 32-bit integers beyond 16 bits).
    """
    with Image.open(source) as image:
        if least := 1 if coarse else least:
            image.draft(image.mode, (least, least))
        image.load()  # first, since some decoders (TIFF) turn the image upright themselves and drop the tag
        upright = _UPRIGHT.get(_orientation(image))
        rgb = _to_rgb(image)
    return rgb if upright is None else rgb.transpose(upright)


@dataclass(frozen=True)
class FileReader:
    """Reads the i-th of some image files; the `read` of a split.

    Attributes:
        paths: of the files.
        draft: whether a JPEG much larger than needed may be decoded at a fraction of its size.
        least: pixels that its short side keeps then; None: it is decoded whole.
    """

    paths: Sequence[str]
    draft: bool = False
    least: int | None = None

    def __call__(self, position: int) -> Image.Image:
        return decode(self.paths[position], least=self.least)


@dataclass(frozen=True, eq=False)
class ArrayReader:
    """Reads the i-th of some grey images held in memory; the `read` of a split."""

    images: np.ndarray  # (n, H, W) uint8

    def __call__(self, position: int) -> Image.Image:
        return Image.fromarray(self.images[position]).convert("RGB")


def read_for(read: Callable[[int], Image.Image], side: int | None) -> Callable[[int], Image.Image]:
    """The same reader for a transform that needs no more than `side` pixels a side (None: unknown).

    What comes out depends on `side`, `FileReader.draft` and `DRAFT_MARGIN` alone.
    """
    if side is None or not isinstance(read, FileReader) or not read.draft:
        return read
    return replace(read, least=side * DRAFT_MARGIN)


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
