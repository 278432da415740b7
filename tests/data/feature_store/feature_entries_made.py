"""Entries of a feature cache for the tests."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from thawlab.data.feature_store.store import Array, Entry, FeatureStore

ROWS = 50
ARRAYS = (Array("0", (6, 5), "float32"), Array("1", (3,), "uint16"))
BYTES = sum(array.file_bytes(ROWS) for array in ARRAYS)
PLENTY = 10**9


def key(**changes: Any) -> dict[str, Any]:
    return {"backbone": "resnet18", "depth": 3, "dataset": "digits", "split": "train", "views": 1, **changes}


def values(seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [
        rng.standard_normal((ROWS, 6, 5), dtype=np.float32),
        rng.integers(0, 2**16, (ROWS, 3)).astype(np.uint16),
    ]


def fill(
    store: FeatureStore,
    wanted: dict[str, Any],
    seed: int = 0,
    chunk: int = 16,
    after_chunk: Callable[[], object] = lambda: None,
    **options: Any,
) -> tuple[Entry, bool]:
    """Make an entry, or wait for it; whether it was made here."""
    rows = values(seed)
    with store.writing(wanted, ROWS, ARRAYS, **options) as writer:
        made = writer.entry is None
        if made:
            for first in range(0, ROWS, chunk):
                writer.write(first, [array[first : first + chunk] for array in rows])
                after_chunk()
    assert writer.entry is not None
    return writer.entry, made


def main(root: str, budget: str, wanted: str, seed: str, mode: str) -> None:
    """In a process of its own: fill an entry, `held` until a line comes in, and say what was read."""

    def hold() -> None:
        print("begun", flush=True)
        sys.stdin.readline()

    while mode == "together" and not Path(root, "go").exists():
        time.sleep(0.001)
    after = hold if mode == "held" else lambda: None
    entry, made = fill(FeatureStore(Path(root), int(budget)), json.loads(wanted), int(seed), ROWS // 2, after)
    print(json.dumps({"made": made, "bytes": [array.tobytes().hex() for array in entry.arrays.values()]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
