"""How many images each class has, in numbers and in a line of words."""

from collections.abc import Sequence

import numpy as np

from thawlab.data.images import ImageData

_ALL = 240  # characters that the line of all classes may take
_FIRST = 130  # characters for those that are named where it would take more
_NAME = 30  # characters of a class's name


def class_counts(labels: np.ndarray, classes: int) -> list[int]:
    """Images of each class."""
    return np.bincount(labels, minlength=classes).tolist()


def in_words(data: ImageData) -> str:
    """Each class with its images in train, val and test; of many classes some, and the extremes.

    So that it is seen at once if the folders were taken for others than they are.
    """
    train, val, test = (class_counts(split.labels, len(data.classes)) for split in (data.train, data.val, data.test))
    names = [_short(name) for name in data.classes]
    parts = [f"{name} ({a} + {b} + {c})" for name, a, b, c in zip(names, train, val, test, strict=True)]
    unit = "train + val + test"
    if len(", ".join(parts)) <= _ALL:
        return f"{', '.join(parts)}: {unit}"
    first = max(_fitting(parts), 1)
    left = len(parts) - first - 1
    named = [*parts[:first], *([f"… {left:,} more …"] if left else []), parts[-1]]
    fewest, most = int(np.argmin(train)), int(np.argmax(train))
    return (
        f"{', '.join(named)}: {unit}; from {train[fewest]:,} ({names[fewest]}) to {train[most]:,} ({names[most]}) "
        "training images a class"
    )


def _fitting(parts: Sequence[str]) -> int:
    """How many from the first on there is room for."""
    lengths = np.cumsum([len(part) + 2 for part in parts[:-1]])
    return int(np.searchsorted(lengths, _FIRST, side="right"))


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME // 2]}…{name[1 - _NAME // 2 :]}"
