"""Making an entry of the feature cache: complete under its name, or not at all."""

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from filelock import Timeout

from thawlab.data.feature_store import eviction as room
from thawlab.data.feature_store.arrays import Array, ArrayWriter
from thawlab.data.feature_store.entry import Entry, entry_name, open_entry, sync_folder, write_meta
from thawlab.data.feature_store.eviction import CacheUnavailable


class Writer:
    """Takes the rows of an entry.

    Attributes:
        entry: the entry, once it is complete; from the start, if another process made it while this one waited.
    """

    def __init__(self, root: Path, key: Mapping[str, object], rows: int, arrays: Sequence[Array]) -> None:
        self.entry: Entry | None = None
        self._root, self._key, self._rows, self._arrays = root, key, rows, tuple(arrays)
        self._path = root / entry_name(key)
        self._part = root / f"{self._path.name}.part-{os.getpid()}"
        self._files: list[ArrayWriter] = []
        self._written = np.zeros(rows, dtype=bool)
        self._begun = time.perf_counter()

    def write(self, first_row: int, values: Sequence[np.ndarray]) -> None:
        """Write some rows, in any order: an array for each of the entry's, (n, *shape).

        Raises:
            ValueError: they are not what was announced.
            CacheUnavailable: they cannot be written.
        """
        if self.entry is not None:
            raise ValueError(f"{self._path}: the entry is complete")
        count = len(values[0]) if len(values) else 0
        if not 0 <= first_row <= first_row + count <= self._rows:
            raise ValueError(f"{self._path}: rows {first_row} to {first_row + count - 1} of {self._rows}")
        wanted = [((count, *array.shape), np.dtype(array.dtype)) for array in self._arrays]
        given = [(value.shape, value.dtype) for value in values]
        if given != wanted:
            raise ValueError(f"{self._path}: {given} was given in place of {wanted}")
        with unavailable(self._root):
            for file, value in zip(self._files, values, strict=True):
                file.write(first_row, value)
        self._written[first_row : first_row + count] = True

    def begin(self, max_bytes: int) -> None:
        """Take room on the disk. The lock of the entry is held."""
        for left in self._root.glob(f"{self._path.name}.part-*"):
            shutil.rmtree(left)
        needed = sum(array.file_bytes(self._rows) for array in self._arrays)
        with room.room_lock(self._root):
            room.make_room(self._root, needed, max_bytes)
            self._part.mkdir()
            for number, array in enumerate(self._arrays):
                self._files.append(ArrayWriter(self._part / f"{number}.npy", array, self._rows))

    def finish(self) -> None:
        """Give the entry its name.

        Raises:
            RuntimeError: rows are missing.
        """
        missing = np.flatnonzero(~self._written)
        if len(missing):
            raise RuntimeError(
                f"{self._path}: {len(missing)} of {self._rows} rows, from {missing[0]}, were not written"
            )
        arrays = [file.finish() for file in self._files]
        meta = write_meta(self._part, self._key, self._rows, arrays, time.perf_counter() - self._begun)
        # Opened before others see it: they may remove it at once to make room.
        entry = open_entry(self._part, meta, self._path)
        self._part.rename(self._path)
        sync_folder(self._root)
        self.entry = entry

    def close(self) -> None:
        """Give the files back, and remove what was not completed."""
        for file in self._files:
            file.close()
        shutil.rmtree(self._part, ignore_errors=True)


@contextmanager
def unavailable(root: Path) -> Iterator[None]:
    """Whatever the file system refuses means that nothing can be cached now."""
    try:
        yield
    except Timeout as error:
        raise CacheUnavailable(f"cache.dir={root}: other processes have been making room for too long") from error
    except OSError as error:
        said = error.strerror or str(error)
        raise CacheUnavailable(
            f"cache.dir={root}: {said}; set cache.dir to a folder that can be written to, with enough space"
        ) from error
