"""How many processes and threads may work on the data, and how much memory they may take."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_CGROUP_FILES = (  # of version 2 and of version 1
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)


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


def available_memory() -> int:
    """Bytes that can still be used without swapping, which a container can make fewer than the machine has.

    All of the machine's memory where the system does not tell (it does on Linux).
    """
    return min([*_free_memory(), sys.maxsize])


def _free_memory() -> Iterator[int]:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                yield 1024 * int(line.split()[1])
    except OSError:
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit, used, cached in _CGROUP_FILES:
        try:
            free = int((_CGROUP / limit).read_text()) - int((_CGROUP / used).read_text())
            statistics = dict(
                line.split() for line in (_CGROUP / used).with_name("memory.stat").read_text().splitlines()
            )
            yield max(0, free + int(statistics[cached]))  # files that were read count as used, yet give way
        except (OSError, ValueError, KeyError):  # no such file, or "max": no limit
            continue
