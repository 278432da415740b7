"""Images that are decoded once and kept in memory, which the workers of a loader and the training process share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from thawlab.data.cpu_and_memory import available_memory
from thawlab.data.dataset import ImageDataset
from thawlab.data.decoding import ArrayReader, read_for
from thawlab.data.images import Split
from thawlab.data.loader_workers import ServedWorkers, context
from thawlab.data.shared_block import SharedBlock
from thawlab.data.transform_geometry import Shrink, least_side, output_size, split_transform
from thawlab.data.transforms import Transform

# Seconds to wait for a process that may have been killed while it held the lock; then the image is decoded again.
_PATIENCE = 1.0
# Share of the memory that images of unknown sizes leave to those that are asked for later.
_LEFT_TO_OTHERS = 0.1


@dataclass(frozen=True, eq=False)
class FirstSteps:
    """Reads an image and takes the steps that are the same in every epoch; picklable, since workers may be spawned."""

    read: Callable[[int], Image.Image]
    steps: Sequence[Callable[[Image.Image], Image.Image]]

    def __call__(self, position: int) -> Image.Image:
        image = self.read(position)
        for step in self.steps:
            image = step(image)
        return image


class KeptImages:
    """A reader that makes each image once, whichever process needs it first, as long as there is room.

    What comes out is what `make` gives, bit for bit, kept or not: the room changes the speed alone. The memory is
    anonymous, so that nothing is left of it however the processes end. It reaches workers that are forked, or started
    by a server as those of this process are; any other copy makes every image anew.

    Args:
        make: position -> upright RGB image, the same at every call.
        count: how many images there are.
        max_bytes: most that may be kept; 0: nothing.
    """

    def __init__(self, make: Callable[[int], Image.Image], count: int, max_bytes: int) -> None:
        self.make = make
        self._room = _Room.of(count, max_bytes) if max_bytes > 0 else None

    def __call__(self, position: int) -> Image.Image:
        if self._room is None:
            return self.make(position)
        if kept := self._room.get(position):
            return kept
        image = self.make(position)
        self._room.put(position, image)
        return image

    def __getstate__(self) -> dict[str, object]:
        return {"make": self.make, "_room": self._room if self._room and self._room.can_be_sent else None}

    @property
    def kept(self) -> tuple[int, int]:
        """How many images are kept, and their bytes."""
        return self._room.used if self._room else (0, 0)


class ImageMemory:
    """Keeps what the loaders of a run decode, over epochs and phases.

    Args:
        max_bytes: most that all processes of a run on this machine may take; at most half of what is free is taken.
            0: every image is decoded anew.
        shrink: make images that are cut at random smaller before they are kept, to the size at which the smallest
            crop still has as many pixels as the network sees: a quarter of the memory and half of the time for
            photographs of 400 × 533 pixels at 128. An approximation, since a crop is then resized twice; a linear
            probe is as accurate (79.8 ± 0.5 % against 79.4 ± 0.1 %). It is done whether an image is kept or not.

        processes: training processes on this machine, of which each keeps what itself needs.

    Without `shrink` everything is exact: what is kept is what the steps of the transform that never change make of an
    image, for evaluation 49 kB at 128 pixels.
    """

    def __init__(self, max_bytes: int, shrink: bool = False, processes: int = 1) -> None:
        self.shrink = shrink
        self._left = min(max_bytes, available_memory() // 2) // processes if max_bytes > 0 else 0
        self._made: list[tuple[Split, Transform, ImageDataset]] = []

    def dataset(self, split: Split, transform: Transform) -> ImageDataset:
        """A split's images by position, decoded once; the same data set for the same split and transform."""
        for known, by, made in self._made:
            if known is split and by is transform:
                return made
        made = self._dataset(split, transform)
        self._made.append((split, transform, made))
        return made

    @property
    def kept(self) -> tuple[int, int]:
        """How many images are kept, and their bytes."""
        stores = [made.split.read for _, _, made in self._made if isinstance(made.split.read, KeptImages)]
        return sum(each.kept[0] for each in stores), sum(each.kept[1] for each in stores)

    def _dataset(self, split: Split, transform: Transform) -> ImageDataset:
        if isinstance(split.read, ArrayReader):  # in memory already
            return ImageDataset(split, transform)
        side = least_side(transform)
        steps, rest = split_transform(transform)
        if self.shrink and side is not None and not steps:
            steps = (Shrink(side),)
        make = FirstSteps(read_for(split.read, side), steps)
        kept = KeptImages(make, len(split), self._taken(len(split), output_size(steps)))
        return ImageDataset(replace(split, read=kept), rest)

    def _taken(self, count: int, size: tuple[int, int] | None) -> int:
        """How much of the memory that is left goes to so many images."""
        wanted = 3 * size[0] * size[1] * count if size else int(self._left * (1 - _LEFT_TO_OTHERS))
        taken = min(wanted, self._left)
        self._left -= taken
        return taken


class _Room:
    """Pixels one after the other in shared memory, and where each image's begin.

    A place is taken under the lock, filled outside of it, and shown under the lock, which also orders the writes of
    one processor before the reads of another.
    """

    def __init__(self, count: int, max_bytes: int) -> None:
        words = 1 + 4 * count
        self._block, self._count = SharedBlock(8 * words + max_bytes), count
        self._lock = context().Lock()
        self._look(self._block)

    def _look(self, block: SharedBlock) -> None:
        words = 1 + 4 * self._count
        self._words = np.frombuffer(block.data, np.int64, words)
        self._table = self._words[1:].reshape(self._count, 4)  # shown (0 or 1), offset, width, height
        self._pixels = memoryview(block.data)[8 * words :]

    @classmethod
    def of(cls, count: int, max_bytes: int) -> "_Room | None":
        try:
            return cls(count, max_bytes)
        except (OSError, ValueError):  # the system has not that much, or cannot share a lock
            return None

    @property
    def can_be_sent(self) -> bool:
        """Whether what is pickled now goes to a worker that is started as the others are."""
        return self._block.can_be_sent and isinstance(context(), ServedWorkers)

    def __getstate__(self) -> dict[str, object]:
        return {"_block": self._block, "_count": self._count, "_lock": self._lock}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._look(self._block)

    @property
    def used(self) -> tuple[int, int]:
        return int(self._table[:, 0].sum()), int(self._words[0])

    def get(self, position: int) -> Image.Image | None:
        if not self._lock.acquire(timeout=_PATIENCE):
            return None
        try:
            shown, offset, width, height = self._table[position].tolist()
        finally:
            self._lock.release()
        if not shown:
            return None
        return Image.frombytes("RGB", (width, height), self._pixels[offset : offset + 3 * width * height])

    def put(self, position: int, image: Image.Image) -> None:
        data = image.tobytes()
        offset = self._take(position, len(data), image)
        if offset is None:
            return
        self._pixels[offset : offset + len(data)] = data
        self._show(position)

    def _take(self, position: int, size: int, image: Image.Image) -> int | None:
        if not self._lock.acquire(timeout=_PATIENCE):
            return None
        try:
            offset = int(self._words[0])
            if self._table[position, 2] or offset + size > len(self._pixels):  # another is at it, or there is no room
                return None
            self._table[position, 1:] = offset, image.width, image.height
            self._words[0] = offset + size
            return offset
        finally:
            self._lock.release()

    def _show(self, position: int) -> None:
        if self._lock.acquire(timeout=_PATIENCE):
            try:
                self._table[position, 0] = 1
            finally:
                self._lock.release()
