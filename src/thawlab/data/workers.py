"""How many processes and threads may work on the data."""

import os


def available_cores() -> int:
    """Cores this process may run on, which a container or a batch system can make fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def auto_workers(processes: int) -> int:
    """Worker processes for each of `processes` training processes on this machine."""
    return available_cores() // processes
