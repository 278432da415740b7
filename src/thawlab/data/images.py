"""The form in which every source hands over its images: three splits, the classes and a content digest."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

SPLITS = ("train", "val", "test")


# eq=False: arrays have no single truth value, so a generated __eq__ would raise.
@dataclass(frozen=True, eq=False)
class Split:
    """One of train, val and test, in a fixed order."""

    ids: tuple[str, ...]  # unique and stable: the path below the root, or "digits/0012"
    paths: tuple[str, ...]  # as text that can be written down; "" where there is no file
    labels: np.ndarray  # (n,) int64, positions in the classes
    read: Callable[[int], Image.Image]  # position -> upright RGB; picklable, since workers may be spawned
    hashes: tuple[str, ...] = ()  # `bytes_hash` of each image; () where they are not known

    def __len__(self) -> int:
        return len(self.labels)

    def for_workers(self) -> "Split":
        """What it takes to read the images: workers that are not forked are sent it, and the rest may be large."""
        return replace(self, ids=(), paths=(), hashes=())


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set ready for training."""

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    digest: str  # 32 hex digits; the same images, labels and splits give the same digest wherever the files lie
    hflip: bool  # whether a mirror image keeps its label
    image_size: int | None  # pixels this data set asks for if the user names none; None: the backbone's own
    notes: tuple[str, ...] = ()  # what the user should be told before training
    test_digest: str = ""  # as `digest`, of the test images alone and in whatever order: what makes scores comparable


@dataclass(frozen=True, eq=False)
class Samples:
    """All images of a source before they are dealt out to splits; the positions agree across the fields."""

    ids: Sequence[str]
    paths: Sequence[str]
    labels: np.ndarray  # (n,) int64
    hashes: Sequence[str]  # `bytes_hash` of each image
    reader: Callable[[np.ndarray], Callable[[int], Image.Image]]  # positions -> the `read` of a split of them

    def split(self, positions: np.ndarray) -> Split:
        """The samples at these positions, in this order."""
        return Split(
            ids=tuple(self.ids[int(i)] for i in positions),
            paths=tuple(self.paths[int(i)] for i in positions),
            labels=self.labels[positions].astype(np.int64),
            read=self.reader(positions),
            hashes=tuple(self.hashes[int(i)] for i in positions),
        )


def bytes_hash(data: bytes) -> str:
    """128 bits that stand for the content of one image file, as 32 hex digits."""
    return hashlib.sha256(data).hexdigest()[:32]
