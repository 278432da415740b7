"""Small pictures of test images, to be put into a page."""

import base64
import struct
from io import BytesIO

from PIL import Image

from thawlab.data.decoding import content_hash, decode
from thawlab.data.safe_open import open_regular
from thawlab.data.sources.contract import SOURCES, HasPictures

_SIDE = 132  # pixels of the longer side
# What Pillow's decoders raise on files that are damaged or no images.
_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, KeyError, struct.error, Image.DecompressionBombError)


def thumbnail(path: str, digest: str = "", dataset: str = "", sample: str = "") -> str | None:
    """An image as the data URI of a small JPEG; None where there is no image, or none that can be read.

    A run in a store that others write to may name any file of the reader's, and a report is passed on: so a file is
    shown only if its bytes are those that the run recorded, which nobody knows who has not had the image.

    Args:
        path: its file, if it has one.
        digest: `bytes_hash` of the file when the run tested it; without it no file is shown.
        dataset: whose source may have a function `picture`, of images that are no files.
        sample: its id there.
    """
    try:
        image = _read(path, digest) if path else _of_source(dataset, sample)
        if image is None:
            return None
        image.thumbnail((_SIDE, _SIDE))
        written = BytesIO()
        image.save(written, "JPEG", quality=80)
    except _UNREADABLE:
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode()}"


def _read(path: str, digest: str) -> Image.Image | None:
    if not digest:
        return None
    with open_regular(path) as data:
        return decode(data, least=_SIDE) if content_hash(data) == digest else None


def _of_source(dataset: str, sample: str) -> Image.Image | None:
    source = SOURCES.load(dataset) if dataset in SOURCES.names() else None
    pixels = source.picture(sample) if isinstance(source, HasPictures) else None
    if pixels is None:
        return None
    image, larger = Image.fromarray(pixels), _SIDE // 2 // max(pixels.shape[:2])
    return image.resize((image.width * larger, image.height * larger), Image.Resampling.NEAREST) if larger else image
