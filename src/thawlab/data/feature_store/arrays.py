"""A file of the feature cache: an array as `.npy`, with a checksum for each block of rows.

The file is read and written by calls, and memory-mapped only if it is large, and was found sound: in a memory map, a
full disk, a broken one and a file that ends early kill the process, where a call raises an error.
"""

import errno
import io
import os
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

_BLOCK = 4 << 20  # bytes, about, under one checksum
_IN_MEMORY = 128 << 20  # bytes of an array that is read as a whole
_THREADS = min(4, os.cpu_count() or 1)  # zlib and reads let other threads run
_NO_RESERVING = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)  # from file systems that cannot set space aside


class DamagedError(Exception):
    """What lies there is not what was written; the message is a clause that says what is wrong."""


@dataclass(frozen=True)
class Array:
    """One array of an entry.

    Attributes:
        name: by which the entry gives it.
        shape: of one row.
        dtype: as NumPy names it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    def header(self, rows: int) -> bytes:
        """What a `.npy` of so many rows begins with."""
        descr = np.lib.format.dtype_to_descr(np.dtype(self.dtype))
        buffer = io.BytesIO()
        about = {"descr": descr, "fortran_order": False, "shape": (rows, *self.shape)}
        np.lib.format.write_array_header_1_0(buffer, about)
        return buffer.getvalue()

    def file_bytes(self, rows: int) -> int:
        """Size of a `.npy` of so many rows."""
        return len(self.header(rows)) + rows * self.row_bytes


@dataclass(frozen=True)
class _Layout:
    """Where what stands in a file."""

    array: Array
    rows: int
    start: int  # bytes before the first row
    block_rows: int  # rows under one checksum

    @property
    def blocks(self) -> int:
        return -(-self.rows // self.block_rows)

    @property
    def size(self) -> int:
        return self.start + self.rows * self.array.row_bytes

    def rows_of(self, block: int) -> tuple[int, int]:
        """The first row of a block, and the one after its last."""
        return block * self.block_rows, min((block + 1) * self.block_rows, self.rows)

    def checksum(self, file: int, block: int) -> int:
        """Of a block as it lies on the disk; the header belongs to the first."""
        first, end = (self.start + row * self.array.row_bytes for row in self.rows_of(block))
        found, position = 0, first if block else 0
        while position < end:  # large rows come in several reads
            data = os.pread(file, min(end - position, _BLOCK), position)
            if not data:
                raise OSError(errno.EIO, "it ends early")
            found, position = zlib.crc32(data, found), position + len(data)
        return found


class ArrayWriter:
    """A `.npy` that is filled with rows, in any order; its space is set aside at once.

    Raises:
        OSError: the file cannot be made, or the disk is full.
    """

    def __init__(self, path: Path, array: Array, rows: int) -> None:
        header = array.header(rows)
        self._path = path
        self._layout = _Layout(array, rows, len(header), max(1, _BLOCK // max(1, array.row_bytes)))
        self._sums = [zlib.crc32(header), *[0] * (self._layout.blocks - 1)]
        # The row that goes on with a block's checksum; None once one came out of turn.
        self._next: list[int | None] = [self._layout.rows_of(block)[0] for block in range(self._layout.blocks)]
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            _reserve(self._file, self._layout.size)
            _write(self._file, memoryview(header), 0)
        except BaseException:
            self.close()
            raise

    def write(self, first_row: int, values: np.ndarray) -> None:
        """Write rows, (n, *shape).

        Raises:
            OSError: they cannot be written.
        """
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
        size = self._layout.array.row_bytes
        _write(self._file, data, self._layout.start + first_row * size)
        row = first_row
        while row < first_row + len(values):
            block = row // self._layout.block_rows
            end = min(self._layout.rows_of(block)[1], first_row + len(values))
            if self._next[block] == row:
                part = data[(row - first_row) * size : (end - first_row) * size]
                self._sums[block], self._next[block] = zlib.crc32(part, self._sums[block]), end
            else:
                self._next[block] = None
            row = end

    def finish(self) -> dict[str, Any]:
        """Bring everything to the disk; return what `open_array` and `check_array` want to know, as JSON data.

        Raises:
            OSError: it cannot be done.
        """
        for block, reached in enumerate(self._next):
            if reached is None:
                self._sums[block] = self._layout.checksum(self._file, block)
        os.fsync(self._file)
        sums = " ".join(f"{each:08x}" for each in self._sums)
        about = {"file": self._path.name, "start": self._layout.start, "block_rows": self._layout.block_rows}
        array = {**asdict(self._layout.array), "shape": list(self._layout.array.shape)}
        return {**array, **about, "checksums": sums}

    def close(self) -> None:
        """Give the file back; twice does no harm."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def check_array(folder: Path, about: Mapping[str, Any], rows: int) -> None:
    """Read every byte and compare the checksums.

    Raises:
        DamagedError: they differ.
        OSError: the file cannot be read.
    """
    path, layout = folder / about["file"], _layout(about, rows)
    sums = [int(text, 16) for text in about["checksums"].split()]
    size = path.stat().st_size
    if size != layout.size:
        raise DamagedError(f"{path.name} has {size:,} bytes in place of {layout.size:,}")
    file = os.open(path, os.O_RDONLY)
    try:
        with ThreadPoolExecutor(_THREADS) as pool:
            found = pool.map(partial(layout.checksum, file), range(layout.blocks))
            bad = next((block for block, both in enumerate(zip(found, sums, strict=True)) if both[0] != both[1]), None)
            pool.shutdown(wait=False, cancel_futures=True)
    finally:
        os.close(file)
    if bad is not None:
        first, end = layout.rows_of(bad)
        raise DamagedError(f"{path.name} differs from its checksum in rows {first} to {end - 1} (block {bad})")


def open_array(folder: Path, about: Mapping[str, Any], rows: int) -> np.ndarray:
    """The array, (rows, *shape), not to be written to: in memory, or if it is large, read from the disk as it is used.

    What is in memory stays as it is whatever happens to the file; a memory map of a file that is cut short ends the
    process.

    Raises:
        DamagedError: the file holds something else.
        OSError: the file cannot be read.
    """
    path, layout = folder / about["file"], _layout(about, rows)
    try:
        found = np.load(path) if layout.size <= _IN_MEMORY else np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError) as error:
        raise DamagedError(f"{path.name} is no array: {error}") from error
    if (found.shape, found.dtype) != ((rows, *layout.array.shape), np.dtype(layout.array.dtype)):
        raise DamagedError(f"{path.name} holds {found.shape} of {found.dtype}")
    found.flags.writeable = False
    return found


def _layout(about: Mapping[str, Any], rows: int) -> _Layout:
    array = Array(about["name"], tuple(about["shape"]), about["dtype"])
    return _Layout(array, rows, about["start"], about["block_rows"])


def _reserve(file: int, size: int) -> None:
    """Set space aside, so that a full disk shows before the work is done."""
    if hasattr(os, "posix_fallocate"):
        try:
            return os.posix_fallocate(file, 0, size)
        except OSError as error:
            if error.errno not in _NO_RESERVING:
                raise
    os.ftruncate(file, size)


def _write(file: int, data: memoryview, position: int) -> None:
    while data:  # one call may write a part only
        written = os.pwrite(file, data, position)
        data, position = data[written:], position + written
