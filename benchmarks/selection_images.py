"""The images of the benchmark of small training sets, in one small file: photographs of 110 pixels, and the digits."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 110  # pixels of a photograph, of which evaluation keeps the middle 96
_MOST = 1500  # photographs of a data set
_LEAST = 112  # of a class, where it has as many


def collect(folders: dict[str, Path], target: Path) -> None:
    """Write the photographs below the folders (the class is the folder they lie in), and scikit-learn's digits."""
    from sklearn.datasets import load_digits

    made: dict[str, Any] = {}
    for name, folder in folders.items():
        images, labels = _photographs(folder)
        sizes = [len(image) for image in images]
        made |= {f"{name}_bytes": np.frombuffer(b"".join(images), np.uint8), f"{name}_sizes": np.array(sizes)}
        made[f"{name}_labels"] = labels
    digits: Any = load_digits()
    made |= {"digits_images": (digits.images * 255 / 16).round().astype(np.uint8), "digits_labels": digits.target}
    np.savez(target, **made)


def _photographs(folder: Path) -> tuple[list[bytes], np.ndarray]:
    by_class: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
            by_class.setdefault(path.parent.name, []).append(path)
    total = sum(map(len, by_class.values()))
    images, labels = [], []
    for label, paths in enumerate(by_class.values()):
        order = np.random.default_rng(label).permutation(len(paths))
        for place in order[: max(_LEAST, round(_MOST * len(paths) / total))]:
            with Image.open(paths[place]) as image:
                small = _square(image.convert("RGB"))
            stream = io.BytesIO()
            small.save(stream, "JPEG", quality=92)
            images.append(stream.getvalue())
            labels.append(label)
    return images, np.array(labels)


def _square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)


def names(archive: Path) -> list[str]:
    """The data sets in the file."""
    with np.load(archive) as found:
        return sorted(key.removesuffix("_labels") for key in found if key.endswith("_labels"))


def load(archive: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W, 3) uint8 and labels (N,) of a data set."""
    with np.load(archive) as found:
        labels = found[f"{name}_labels"]
        if f"{name}_images" in found:
            pictures = (
                Image.fromarray(image).resize((73, 73), Image.Resampling.BICUBIC) for image in found[f"{name}_images"]
            )
            return np.stack([np.asarray(each.convert("RGB")) for each in pictures]), labels
        ends = np.cumsum(found[f"{name}_sizes"])
        content = found[f"{name}_bytes"].tobytes()
        parts = [content[end - size : end] for end, size in zip(ends, found[f"{name}_sizes"], strict=True)]
        return np.stack([np.asarray(Image.open(io.BytesIO(part))) for part in parts]), labels


if __name__ == "__main__":
    import sys

    *pairs, out = sys.argv[1:]
    collect({name: Path(path) for name, _, path in (pair.partition("=") for pair in pairs)}, Path(out))
