"""Small pictures of images that lie on the disk, to be put into a page."""

import base64
import struct
from io import BytesIO
from pathlib import Path

from PIL import Image

from thawlab.data.decoding import decode

_SIDE = 132  # pixels of the longer side
# What Pillow's decoders raise on files that are damaged or no images.
_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, KeyError, struct.error, Image.DecompressionBombError)


def thumbnail(path: str) -> str | None:
    """The image as the data URI of a small JPEG; None where there is no image, or none that can be read."""
    try:
        if not path or not Path(path).is_file():
            return None
        image = decode(path, least=_SIDE)
        image.thumbnail((_SIDE, _SIDE))
        written = BytesIO()
        image.save(written, "JPEG", quality=80)
    except _UNREADABLE:
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode()}"
