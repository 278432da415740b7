"""The memory through which a loader's workers hand over batches, which containers make small."""

import shutil
from pathlib import Path

_FOLDER = Path("/dev/shm")  # of Linux; elsewhere nothing is known to be short
_AHEAD = 2  # batches that each worker has ready: torch's prefetch_factor
_IN_HAND = 2  # batches that are no worker's any more: the one at work and the next


def fitting_workers(wanted: int, processes: int, batch_bytes: int, pass_bytes: int) -> tuple[int, str | None]:
    """As many of the workers as the shared memory has room for, and a note if those are fewer.

    What a run computes does not depend on it.

    Args:
        wanted: workers of each process.
        processes: training processes on this machine.
        batch_bytes: of the largest batch.
        pass_bytes: of the longest pass over the images, all that can ever be there at once.
    """
    try:
        free = shutil.disk_usage(_FOLDER).free // processes
    except OSError:
        return wanted, None
    fitting = wanted
    while fitting and min((_AHEAD * fitting + _IN_HAND) * batch_bytes, pass_bytes) > free:
        fitting -= 1
    if fitting == wanted:
        return wanted, None
    now = f"{fitting} in the place of {wanted}" if fitting else "the training process itself"
    return fitting, (
        f"/dev/shm, through which the processes that decode images hand over batches of {_size(batch_bytes)}, has "
        f"only {_size(free)} free: images are decoded by {now}; give it more room, as by Docker's --shm-size=8g, or "
        f"use trainer.workers={fitting}"
    )


def _size(count: int) -> str:
    return f"{count / 1e6:.3g} MB" if count < 1e9 else f"{count / 1e9:.3g} GB"
