"""How many processes and threads may work on the data."""

import os


def available_cores() -> int:
    """Cores this process may run on, which a container or a batch system can make fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def auto_workers(processes: int) -> int:
    """Worker processes for each of `processes` training processes on this machine.

    One core is left to training: a worker makes 300 images of 128 pixels a second out of 400 × 533 photographs, more
    than two cores train on. Even a single core gets a worker, since that uses one thread, while the transforms of a
    training process that shares its cores with others wait for its idle threads (40 ms an image instead of 1).
    """
    return min(16, max(1, available_cores() // processes - 1))
