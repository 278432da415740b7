"""Which file format suits stored activations: raw memory-mapped bytes, .npy or safetensors; and what a checksum costs.

Run: OMP_NUM_THREADS=1 python benchmarks/feature_formats.py [FOLDER]
"""

import os
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

SHAPE = (320, 4, 4)  # 20 KB a row
ROWS = 400_000_000 // (4 * int(np.prod(SHAPE)))
CHUNK, BATCH, BATCHES, REPEATS = 64, 32, 300, 5


def chunks() -> Iterator[np.ndarray]:
    values = np.random.default_rng(0).standard_normal((CHUNK, *SHAPE), dtype=np.float32)
    for first in range(0, ROWS, CHUNK):
        yield values[: ROWS - first]


def write_mapped(array: np.ndarray) -> None:
    for number, values in enumerate(chunks()):
        array[number * CHUNK : number * CHUNK + len(values)] = values
    array.base.flush() if isinstance(array.base, np.memmap) else array.flush()  # type: ignore[attr-defined]


def write_raw_mapped(path: Path) -> None:
    write_mapped(np.memmap(path, np.float32, "w+", shape=(ROWS, *SHAPE)))


def write_raw_pwrite(path: Path) -> None:
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, ROWS * 4 * int(np.prod(SHAPE)))
        for values in chunks():
            file.write(values.data)
        file.flush()
        os.fsync(file.fileno())


def write_npy_pwrite(path: Path) -> None:
    array = np.lib.format.open_memmap(path, "w+", np.float32, (ROWS, *SHAPE))
    offset = array.offset
    del array
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, offset + ROWS * 4 * int(np.prod(SHAPE)))
        file.seek(offset)
        for values in chunks():
            file.write(values.data)
        file.flush()
        os.fsync(file.fileno())


def write_npy_mapped(path: Path) -> None:
    write_mapped(np.lib.format.open_memmap(path, "w+", np.float32, (ROWS, *SHAPE)))


def write_safetensors(path: Path) -> None:
    save_file({"x": np.concatenate(list(chunks()))}, path)  # whole arrays only
    with path.open("rb") as file:
        os.fsync(file.fileno())


def open_raw(path: Path) -> Any:
    return np.memmap(path, np.float32, "r", shape=(ROWS, *SHAPE))


def open_npy(path: Path) -> Any:
    return np.lib.format.open_memmap(path, "r")


def open_safetensors(path: Path) -> Any:
    return safe_open(path, "np").get_slice("x")


def open_safetensors_torch(path: Path) -> Any:
    return safe_open(path, "pt").get_tensor("x")


def gather(array: Any, rows: np.ndarray) -> Any:
    return array[rows]


def gather_slices(array: Any, rows: np.ndarray) -> Any:
    return np.concatenate([array[row : row + 1] for row in rows.tolist()])


def gather_torch(array: Any, rows: np.ndarray) -> Any:
    import torch

    return array[torch.from_numpy(rows)]


FORMATS = {
    "raw, memmap": (write_raw_mapped, open_raw, gather),
    "raw, write()": (write_raw_pwrite, open_raw, gather),
    "npy, memmap": (write_npy_mapped, open_npy, gather),
    "npy, write()": (write_npy_pwrite, open_npy, gather),
    "safetensors, numpy": (write_safetensors, open_safetensors, gather_slices),
    "safetensors, torch": (write_safetensors, open_safetensors_torch, gather_torch),
}


def seconds(act: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def forget(path: Path) -> None:
    """Drop a file from the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure_formats(folder: Path) -> None:
    found: dict[str, list[list[float]]] = {name: [] for name in FORMATS}
    for repeat in range(REPEATS):
        for name, (write, open_, gather_) in FORMATS.items():
            path = folder / "x"
            row = [0.4 / seconds(lambda write=write, path=path: write(path))]
            row.append(1e6 * min(seconds(lambda open_=open_, path=path: open_(path)) for _ in range(20)))
            rng = np.random.default_rng(repeat)
            for cold in (True, False):
                array = open_(path)
                if cold:
                    forget(path)
                batches = [rng.integers(0, ROWS, BATCH) for _ in range(BATCHES // 10 if cold else BATCHES)]
                for each in () if cold else batches:  # pages mapped already
                    gather_(array, each)
                taken = seconds(
                    lambda gather_=gather_, array=array, batches=batches: [gather_(array, b) for b in batches]
                )
                row.append(len(batches) / taken)
                del array
            found[name].append(row)
            path.unlink()
    print(f"{'':20} {'write GB/s':>12} {'open µs':>10} {'cold batch/s':>13} {'warm batch/s':>13}")
    for name, rows in found.items():
        write, open_, cold, warm = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{name:20} {write:12.2f} {open_:10.0f} {cold:13.0f} {warm:13.0f}")


def measure_checksums() -> None:
    block = np.random.default_rng(0).bytes(4 << 20)
    sums: dict[str, Callable[[bytes], Any]] = {
        "zlib.crc32": zlib.crc32,
        "zlib.adler32": zlib.adler32,
        "blake2b": lambda data: blake2b(data).digest(),
        "sha256": lambda data: sha256(data).digest(),
    }
    for name, function in sums.items():
        for threads in (1, 2, 4):
            with ThreadPoolExecutor(threads) as pool:
                taken = min(seconds(lambda f=function, p=pool: list(p.map(f, [block] * 64))) for _ in range(3))
            print(f"{name:20} {threads} threads {64 * len(block) / taken / 1e9:8.2f} GB/s")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as given:
        measure_formats(Path(given))
    measure_checksums()
