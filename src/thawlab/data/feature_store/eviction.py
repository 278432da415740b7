"""The folder of the feature cache: its entries, what lies there half made, and room for one more.

`<root>/<name>/` is an entry, `<root>/<name>.part-<pid>/` one that is being made, by the process that holds
`<root>/<name>.lock`, and `<root>/<name>.gone-…/` one that is being removed. The lock files are empty and stay: a lock
whose file can vanish is none.
"""

import os
import re
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from thawlab.data.feature_store.entry import EntryInfo, arrays_bytes, info

_ENTRY = re.compile(r"[0-9a-f]{24}")
_PART = re.compile(r"[0-9a-f]{24}\.part-\d+")
_GONE = re.compile(r"[0-9a-f]{24}\.gone-\d+-\d+")
_KEPT_FREE = 0.01  # share of the disk that is left to others
_LOCK_SECONDS = 120  # for one process to make room


class CacheUnavailable(Exception):  # noqa: N818  (nothing went wrong: a run goes on without)
    """Nothing can be cached now; the message is a clause that says why."""


def entries(root: Path) -> list[EntryInfo]:
    """All entries, what was used least recently first; none where the folder cannot be read."""
    found = [info(path) for path in _listed(root) if _ENTRY.fullmatch(path.name)]
    return sorted((each for each in found if each is not None), key=lambda each: (each.last_used, each.name))


def parts(root: Path) -> list[Path]:
    """Folders in which something is being made, or was when its process was killed."""
    return [path for path in _listed(root) if _PART.fullmatch(path.name)]


def lock(root: Path, name: str) -> FileLock:
    """Held by the process that makes the entry of this name; the system gives it back when the process dies."""
    return FileLock(root / f"{name}.lock")


def remove(path: Path) -> None:
    """Remove an entry: at once for everyone who looks for it, whatever happens to this process.

    Who reads it goes on reading: its files are there until their last memory map is closed.

    Raises:
        OSError: it cannot be done.
    """
    gone = path.with_name(f"{path.name}.gone-{os.getpid()}-{time.monotonic_ns()}")
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def clear(root: Path) -> None:
    """Remove what killed processes left behind, where that can be done."""
    for path in _listed(root):
        if _GONE.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
    for path in parts(root):
        # Whoever holds the lock is making the entry.
        with suppress(OSError, Timeout), lock(root, path.name.partition(".")[0]).acquire(timeout=0):
            shutil.rmtree(path, ignore_errors=True)


def check_budget(needed: int, max_bytes: int) -> None:
    """Refuse what would not fit even if there were nothing else.

    Raises:
        CacheUnavailable: it would not.
    """
    if needed > max_bytes:
        raise CacheUnavailable(f"it needs {readable(needed)}, cache.max_gb={max_bytes / 1e9:g}; raise cache.max_gb")


def make_room(root: Path, needed: int, max_bytes: int) -> None:
    """Remove entries, what was used least recently first, until so many bytes more fit into the budget and on the disk.

    An entry that a process reads may be among them, this process included: see `remove`. The caller holds `room_lock`.

    Raises:
        CacheUnavailable: it will not fit; then nothing was removed.
        OSError: something cannot be removed.
    """
    check_budget(needed, max_bytes)
    clear(root)
    held = sum(_size(path) for path in parts(root))
    if needed + held > max_bytes:
        raise CacheUnavailable(
            f"it needs {readable(needed)} and what is being filled at this moment {readable(held)}, "
            f"cache.max_gb={max_bytes / 1e9:g}; raise cache.max_gb"
        )
    found = entries(root)
    total = sum(each.bytes for each in found)
    if needed > _free(root) + total:
        raise CacheUnavailable(
            f"it needs {readable(needed)}, and the disk of cache.dir={root} has {readable(_free(root))} to spare; "
            "free some space, or name a folder on another disk"
        )
    for each in found:
        if total + held + needed <= max_bytes and needed <= _free(root):
            return
        with suppress(FileNotFoundError):  # somebody else was faster
            remove(each.path)
        total -= each.bytes


def readable(size: int) -> str:
    """Bytes, as one says them."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def room_lock(root: Path) -> FileLock:
    """Held while room is made and taken, so that two processes do not take the same."""
    return FileLock(root / "room.lock", timeout=_LOCK_SECONDS)


def _listed(root: Path) -> Iterable[Path]:
    try:
        return sorted(root.iterdir())
    except OSError:
        return []


def _size(part: Path) -> int:
    with suppress(OSError):
        return arrays_bytes(part)
    return 0  # it is finished, or gone


def _free(root: Path) -> int:
    usage = shutil.disk_usage(root)
    return max(0, usage.free - int(usage.total * _KEPT_FREE))
