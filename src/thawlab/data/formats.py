"""Which image files are read, by the ends of their names and by Pillow's formats; what to do with others.

A list of our own: Pillow's would take PDF, video and science formats for photographs, and start Ghostscript on a file
that holds PostScript, whatever its name.
"""

from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec

_HEIF = "pillow_heif"  # used where it is installed

# Pillow's format -> ends of names. MPO, what cameras make of two JPEGs, comes with JPEG.
_ALWAYS = {
    "JPEG": (".jfif", ".jpe", ".jpeg", ".jpg", ".mpo"),
    "PNG": (".apng", ".png"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "GIF": (".gif",),
    "PPM": (".pbm", ".pgm", ".pnm", ".ppm"),
    "TIFF": (".tif", ".tiff"),
}
_WHERE_BUILT_IN = {  # by Pillow's name of the feature
    "webp": {"WEBP": (".webp",)},
    "avif": {"AVIF": (".avif",)},
    "jpg_2000": {"JPEG2000": (".j2c", ".j2k", ".jp2", ".jpc", ".jpf", ".jpx")},
}
_HEIF_NAMES = (".heic", ".heif", ".hif")

_OLD_PILLOW = "Pillow here was built without it: pip install -U pillow"
_CAMERA = "raw data of a camera: develop them into TIFF or JPEG"
_SCENE = "more than 8 bits of brightness: convert to PNG"
_MEDICAL = "a medical image: choose its window, and write PNG"
_SLIDE = "a slide scan: cut it into tiles of PNG"
_DRAWING = "no pixels: draw it into PNG"
_ARRAY = "arrays: write each image as PNG"
_ARCHIVE = "an archive: unpack it"
_VIDEO = "a video: write its frames as PNG"
_REMEDIES = {
    **dict.fromkeys(_HEIF_NAMES, "pip install pillow-heif, or convert to JPEG"),
    **dict.fromkeys((".webp", ".avif", *_WHERE_BUILT_IN["jpg_2000"]["JPEG2000"]), _OLD_PILLOW),
    **dict.fromkeys((".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".kdc", ".mrw", ".nef", ".nrw"), _CAMERA),
    **dict.fromkeys((".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"), _CAMERA),
    **dict.fromkeys((".exr", ".hdr", ".pfm"), _SCENE),
    **dict.fromkeys((".dcm", ".dicom", ".mha", ".mhd", ".nii", ".nrrd"), _MEDICAL),
    **dict.fromkeys((".bif", ".mrxs", ".ndpi", ".scn", ".svs", ".vms", ".czi", ".lif", ".nd2", ".vsi"), _SLIDE),
    **dict.fromkeys((".ai", ".eps", ".pdf", ".ps", ".svg"), _DRAWING),
    **dict.fromkeys((".h5", ".hdf5", ".mat", ".npy", ".npz", ".parquet", ".pkl", ".pt", ".tfrecord"), _ARRAY),
    **dict.fromkeys((".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip"), _ARCHIVE),
    **dict.fromkeys((".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm", ".wmv"), _VIDEO),
    **dict.fromkeys((".ico", ".jxl", ".pcx", ".psd", ".sgi", ".tga", ".xcf"), "convert to PNG"),
    "no extension": "name images by what they are, such as .jpg",
}


@cache
def formats() -> tuple[str, ...]:
    """The formats that Pillow may open here, by its names; files of others are never given to their decoders."""
    return tuple(_known())


@cache
def extensions() -> frozenset[str]:
    """Ends of the names of image files, in lower case, with their dot."""
    return frozenset(end for ends in _known().values() for end in ends)


def remedies(ends: Iterable[str]) -> str:
    """What to do with files whose names end so; "" where nothing is known of any."""
    found: dict[str, list[str]] = {}
    for end in ends:
        if end in _REMEDIES and end not in extensions():
            found.setdefault(_REMEDIES[end], []).append(end)
    return "; ".join(f"{', '.join(names)}: {remedy}" for remedy, names in found.items())


def versions() -> dict[str, str | None]:
    """Of the libraries that make pixels of files here; None where one is missing."""
    from PIL import features

    found = {name: features.version(name) for name in ("jpg", "libtiff", "littlecms2", *_WHERE_BUILT_IN)}
    if "HEIF" in _known():
        found[_HEIF] = getattr(__import__(_HEIF), "__version__", None)
    return found


@cache
def _known() -> dict[str, tuple[str, ...]]:
    from PIL import features

    known = dict(_ALWAYS)
    for feature, more in _WHERE_BUILT_IN.items():
        if features.check(feature):
            known |= more
    if find_spec(_HEIF) is not None:
        __import__(_HEIF).register_heif_opener()
        known["HEIF"] = _HEIF_NAMES
    return known
