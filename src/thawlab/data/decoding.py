"""Any image file as an upright 8-bit RGB image."""

import hashlib
import io
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from PIL import Image

from thawlab.data.changed_images import ImageChangedError
from thawlab.data.colours import check_pixels, to_srgb
from thawlab.data.safe_open import MAX_PIXELS, TooLargeError, open_image, open_regular, without_texts
from thawlab.data.shared_arrays import SharedArray, SharedTexts
from thawlab.data.shared_block import is_starting_process
from thawlab.system.printable import printable

# To be raised whenever the same file comes out otherwise, which nothing kept on a disk may mistake for the same.
DECODING = 2

T = TypeVar("T")

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


def decode(source: str | Path | BinaryIO, *, least: int | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode the first frame of an image file to upright 8-bit RGB in the colours of sRGB, see `to_srgb`.

    With `least` a JPEG may come out at a half, a quarter or an eighth of its size, in the fraction of the time, as long
    as its short side keeps that many pixels. Other formats have no such way and come out whole.

    Raises:
        Exception: whatever Pillow's decoder raises on damaged data, mostly OSError.
        ValueError: pixels without a defined range (floating point, 32-bit integers beyond 16 bits).
        TooLargeError: it takes more memory than `max_pixels` usual pixels.
    """
    if isinstance(source, str | Path):
        with open_regular(source, max_pixels) as data:
            return decode(data, least=least, max_pixels=max_pixels)
    rgb, upright = _loaded(source, _rgb_and_turn, least, max_pixels)
    return rgb if upright is None else rgb.transpose(upright)


def check(data: BinaryIO, max_pixels: int, gate: Callable[[int], AbstractContextManager[object]]) -> None:
    """Find out whether a file can be decoded, in no more memory than its decoder takes.

    A JPEG is read at an eighth of its size: that still reads every byte and finds the same damage, in half the time.

    Args:
        data: the file.
        max_pixels: as for `decode`.
        gate: entered with the number of pixels before they are decoded.

    Raises:
        Exception: as `decode`.
    """

    def load(image: Image.Image) -> None:
        with gate(image.width * image.height):
            image.load()
            check_pixels(image)

    _loaded(data, load, 1, max_pixels)


def content_hash(data: io.BytesIO | io.BufferedReader) -> str:
    """`bytes_hash` of a file that is open; it stands at its beginning afterwards."""
    data.seek(0)
    found = hashlib.file_digest(data, "sha256").hexdigest()[:32]
    data.seek(0)
    return found


@dataclass(frozen=True)
class FileReader:
    """Reads the i-th of some image files; the `read` of a split.

    Attributes:
        paths: of the files.
        draft: whether a JPEG much larger than needed may be decoded at a fraction of its size.
        least: pixels that its short side keeps then; None: it is decoded whole.
        hashes: `bytes_hash` of each; what is decoded has it. None: it may be anything.
        max_pixels: as for `decode`.
    """

    paths: Sequence[str]
    draft: bool = False
    least: int | None = None
    hashes: Sequence[str] | None = None
    max_pixels: int = MAX_PIXELS

    def __call__(self, position: int) -> Image.Image:
        """Read one.

        Raises:
            ImageChangedError: it is not what it was, or gone.
        """
        path = self.paths[position]
        try:
            data = open_regular(path, self.max_pixels)
        except (OSError, TooLargeError) as error:
            reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
            raise ImageChangedError(f"{printable(path)}: {reason}, since the run began; put it back") from error
        with data:
            if self.hashes is not None and content_hash(data) != self.hashes[position]:
                raise ImageChangedError(
                    f"{printable(path)}: the file has changed since the run began; start again when nothing writes to "
                    "the images any more"
                )
            return decode(data, least=self.least, max_pixels=self.max_pixels)

    def __getstate__(self) -> dict[str, Any]:
        state = {each.name: getattr(self, each.name) for each in fields(self)}
        return state | self._shared if is_starting_process() else state

    @cached_property
    def _shared(self) -> dict[str, Any]:
        """The long fields as all workers are sent them: a million paths take more memory than a worker has to have."""
        hashes = None if self.hashes is None else SharedTexts.of(self.hashes)
        return {"paths": SharedTexts.of(self.paths), "hashes": hashes}


@dataclass(frozen=True, eq=False)
class ArrayReader:
    """Reads the i-th of some grey images held in memory; the `read` of a split."""

    images: np.ndarray  # (n, H, W) uint8

    def __call__(self, position: int) -> Image.Image:
        return Image.fromarray(self.images[position]).convert("RGB")

    def __getstate__(self) -> dict[str, Any]:
        return {"images": self._shared if is_starting_process() else self.images}

    @cached_property
    def _shared(self) -> SharedArray:
        return SharedArray(self.images)


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


def _rgb_and_turn(image: Image.Image) -> tuple[Image.Image, Image.Transpose | None]:
    image.load()  # first, since some decoders (TIFF) turn the image upright themselves and drop the tag
    return to_srgb(image), _UPRIGHT.get(_orientation(image))


def _loaded(data: BinaryIO, use: Callable[[Image.Image], T], least: int | None, max_pixels: int) -> T:
    """What `use` makes of the image in a file; of a PNG that Pillow refuses for its texts, without these."""
    try:
        with open_image(data, max_pixels) as image:
            if least:
                image.draft(image.mode, (least, least))
            return use(image)
    except TooLargeError:
        raise
    except ValueError:
        data.seek(0)
        found = without_texts(data.read())
        if found is None:
            raise
    with open_image(io.BytesIO(found[0]), max_pixels) as image:
        if found[1]:
            image.info["icc_profile"] = found[1]
        return use(image)
