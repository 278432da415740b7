"""What a file is that is no file of weights: told from its first bytes, without loading torch."""

import json
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

# What torch.save writes without a zip archive begins with this number, as a pickle of protocol 2.
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
ENDINGS = (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".tar")

_AGAIN = "download or copy it again"
_UNPACK = "unpack it and name the file of weights in it"
_CONVERT = "load it with the library that wrote it and save a PyTorch state_dict of the same architecture"

_BEGINNINGS = {
    b"version https://git-lfs": (
        "a Git LFS pointer in the place of the weights; run `git lfs pull` in that folder, or download the file itself"
    ),
    b"\x89HDF\r\n\x1a\n": f"an HDF5 file, as Keras writes; {_CONVERT}",
    b"\x93NUMPY": f"one NumPy array; {_CONVERT}",
    b"GGUF": f"a GGUF file; {_CONVERT}",
    b"\x1f\x8b": f"compressed with gzip; {_UNPACK}",
    b"BZh": f"compressed with bzip2; {_UNPACK}",
    b"\xfd7zXZ": f"compressed with xz; {_UNPACK}",
    b"\x28\xb5\x2f\xfd": f"compressed with zstd; {_UNPACK}",
    b"7z\xbc\xaf\x27\x1c": f"a 7z archive; {_UNPACK}",
    b"Rar!": f"a RAR archive; {_UNPACK}",
    b"%PDF": "a PDF document; name the file of weights",
    b"\x89PNG": "a picture; name the file of weights",
    b"\xff\xd8\xff": "a picture; name the file of weights",
}
_SUFFIXES = {
    ".onnx": f"an ONNX model; {_CONVERT}",
    ".pb": f"a TensorFlow model; {_CONVERT}",
    ".tflite": f"a TensorFlow Lite model; {_CONVERT}",
    ".msgpack": f"weights of Flax; {_CONVERT}",
}
_SCRIPT = (
    "a TorchScript archive, which holds code beside the weights; where you trust it: "
    "`torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')`"
)
_NPZ = (
    "an archive of NumPy arrays (.npz); timm reads those of some ViTs: `m = timm.create_model(NAME); "
    "m.load_pretrained(FILE); torch.save(m.state_dict(), 'weights.pth')`"
)
_PICKLE = (
    "a pickle that torch.save did not write, which could run any code; where you trust it, load it and save its "
    "state_dict with torch.save"
)


def is_safetensors(path: Path) -> bool:
    """Whether the file begins as safetensors do: the length of a header in JSON, and that header."""
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:9] == b"{" and head[6:8] == b"\0\0"


def not_weights(path: Path) -> str | None:
    """What the file or folder is and what to do, or None if it may hold weights."""
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        return "no file but a device, a pipe or a socket; name the file of weights"
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        return f"an empty file and not weights; {_AGAIN}"
    if is_safetensors(path):
        return None
    if head.startswith(b"PK\x03\x04"):
        return _zip(path)
    if head.startswith(LEGACY):
        return None
    if head.startswith(b"\x80") or re.match(rb"\([dl]p?0?\n|c[\w.]+\n\w+\n", head):
        return _PICKLE
    return _binary(head, path) or _text(head) or f"neither safetensors nor a file of torch.save; {_AGAIN}"


def _folder(path: Path) -> str:
    files = sorted(each for each in path.iterdir() if each.name.endswith(ENDINGS))
    # Those of Hugging Face first, of which the safetensors are the same weights without a pickle.
    known = [path / name for name in ("model.safetensors", "pytorch_model.bin") if path / name in files]
    if (path / "saved_model.pb").exists():
        return f"the folder of a TensorFlow SavedModel; {_CONVERT}"
    if not files:
        return "a folder; name the file of weights in it"
    return f"a folder; name the file of weights in it: {known[0] if known else _first([str(each) for each in files])}"


def _zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return f"damaged or incomplete, the end of the file is missing; {_AGAIN}"
    inner = {name.partition("/")[2] for name in names} | set(names)
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        return _SCRIPT
    if "data.pkl" in inner:
        return None
    if all(name.endswith(".npy") for name in names):
        return _NPZ
    if any("exported_program" in name for name in names):
        return f"a program of torch.export; {_CONVERT}"
    if "model.weights.h5" in inner:
        return f"a Keras model; {_CONVERT}"
    if "saved_model.pb" in inner:
        return f"a TensorFlow SavedModel in a zip archive; {_CONVERT}"
    return f"a zip archive of other files ({_first(names)}); {_UNPACK}"


def _binary(head: bytes, path: Path) -> str | None:
    for beginning, meaning in _BEGINNINGS.items():
        if head.startswith(beginning):
            return meaning
    if head[257:262] == b"ustar":
        return f"a tar archive; {_UNPACK}"
    if head[4:8] == b"TFL3":
        return _SUFFIXES[".tflite"]
    # The protocol buffers of ONNX: the version of the format, then who wrote it.
    if head[:1] == b"\x08" and head[2:3] == b"\x12":
        return _SUFFIXES[".onnx"]
    if not head.strip(b"\0"):
        return f"damaged: it begins with nothing but zero bytes; {_AGAIN}"
    return _SUFFIXES.get(path.suffix.lower())


def _text(head: bytes) -> str | None:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"<html" in start[:1000] or start.startswith(b"<!doctype html"):
        return "a web page (HTML), maybe one to log in at or of an error; download the file of weights itself"
    if start.startswith(b"<"):
        return f"XML, such as a server's message of an error; {_AGAIN}"
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # not merely a letter cut off by the end of what was read
            return None
        text = head[: error.start].decode("utf-8")
    if not all(letter.isprintable() or letter.isspace() for letter in text):
        return None
    if '"weight_map"' in text:
        return "the index of weights that lie in several files; save them as one state_dict and name that file"
    if start.startswith((b"{", b"[")):
        return f"JSON, such as a server's message of an error or a network's settings; {_AGAIN}"
    return f"text that begins with {json.dumps(text[:30], ensure_ascii=False)}; {_AGAIN}"


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
