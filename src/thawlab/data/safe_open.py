"""Opening files from outside: regular files alone, the listed formats alone, and no more pixels than are allowed."""

import io
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from thawlab.data.formats import formats

# Pixels at which Pillow refuses to go on by itself: twice what it warns of.
MAX_PIXELS = 178_956_970
# Bytes that a pixel takes while it is decoded; these decoders keep frames of their own beside Pillow's image.
_PIXEL_BYTES = {"WEBP": 16, "AVIF": 16, "HEIF": 16, "JPEG2000": 20}
_USUAL_PIXEL_BYTES = 8
_MAX_FILE_BYTES = 16  # for each allowed pixel; more is in no file that is worth a look
_IN_MEMORY = 64 << 20  # bytes of a file that is read at once
_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_PROFILE = 16 << 20  # bytes of a colour profile in a PNG; more is not looked at
_KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a pipe, no file",
    stat.S_ISSOCK: "a socket, no file",
    stat.S_ISCHR: "a device, no file",
    stat.S_ISBLK: "a device, no file",
}


class TooLargeError(ValueError):
    """An image, or its file, takes more memory than is allowed; the message says what it takes."""


def open_regular(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> io.BytesIO | io.BufferedReader:
    """A regular file, open for reading; one of ordinary size is in memory, where nobody can change it any more.

    Raises:
        OSError: it cannot be read, or is none.
        TooLargeError: no image of so many pixels is as long.
    """
    # Asked before it is opened, since opening alone can hang at a pipe, or wind back a tape; and again afterwards.
    _require_regular(Path(path).stat().st_mode, path)
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    opened = io.open(file, "rb")  # noqa: UP020, SIM115 (its type is that of a buffered file)
    about = os.fstat(file)
    if stat.S_ISREG(about.st_mode) and _IN_MEMORY < about.st_size <= _MAX_FILE_BYTES * max_pixels:
        return opened
    with opened:
        _require_regular(about.st_mode, path)
        if about.st_size > _IN_MEMORY:
            raise TooLargeError(f"a file of {about.st_size / 1e9:.1f} GB; cut it, or raise dataset.max_pixels")
        return io.BytesIO(opened.read(_IN_MEMORY + 1))


@contextmanager
def open_image(data: BinaryIO, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """An image that is not decoded yet, of one of `formats()`.

    Raises:
        UnidentifiedImageError: it is no such image.
        TooLargeError: decoding it takes more memory than `max_pixels` usual pixels.
        Exception: whatever Pillow's decoders raise on damaged data.
    """
    _unlimited()
    with Image.open(data, formats=formats()) as image:
        check_size(image, max_pixels)
        yield image


def check_size(image: Image.Image, max_pixels: int) -> None:
    """Refuse an image before it is decoded.

    Raises:
        TooLargeError: it has too many pixels.
    """
    pixels = image.width * image.height
    needed = -(-pixels * _PIXEL_BYTES.get(image.format or "", _USUAL_PIXEL_BYTES) // _USUAL_PIXEL_BYTES)
    if needed > max_pixels:
        raise TooLargeError(
            f"{image.width} × {image.height} pixels take {needed * _USUAL_PIXEL_BYTES / 1e9:.1f} GB; make it smaller, "
            f"or allow it by dataset.max_pixels={needed}"
        )


def without_texts(data: bytes) -> tuple[bytes, bytes | None] | None:
    """A PNG without its texts and colour profile, and the profile; None if it is no PNG with such parts.

    Pillow refuses a PNG for a text or a profile of more than a megabyte, of which the pixels know nothing.
    """
    if not data.startswith(_PNG):
        return None
    kept, profile, dropped, at = [_PNG], None, False, len(_PNG)
    while at + 12 <= len(data):
        length = struct.unpack_from(">I", data, at)[0]
        kind, end = data[at + 4 : at + 8], at + 12 + length
        if kind == b"iCCP":
            profile = _profile(data[at + 8 : end - 4])
        if kind in (b"iCCP", b"tEXt", b"zTXt", b"iTXt"):
            dropped = True
        else:
            kept.append(data[at:end])
        at = end
    return (b"".join(kept), profile) if dropped else None


def _profile(chunk: bytes) -> bytes | None:
    """The profile in the content of a chunk: a name, a zero, the method, and the profile, packed."""
    unpack = zlib.decompressobj()
    try:
        profile = unpack.decompress(chunk.partition(b"\0")[2][1:], _MAX_PROFILE)
    except zlib.error:
        return None
    return None if unpack.unconsumed_tail else profile


def _require_regular(mode: int, path: str | os.PathLike[str]) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS.items() if is_kind(mode)), "no file")
        raise OSError(0, kind, os.fspath(path))


@cache
def _unlimited() -> None:
    """Let `check_size` alone say how large an image may be, since a user may allow more than Pillow does."""
    Image.MAX_IMAGE_PIXELS = None
