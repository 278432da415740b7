"""Activations on the disk, found again by what they depend on: the feature cache.

One process makes an entry, under a lock, in a folder that gets its name only once it is complete; the others wait for
it. What is found is read through and compared with its checksums before anyone gets it.
"""

import errno
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from thawlab.data.feature_store import eviction as room
from thawlab.data.feature_store.arrays import Array, DamagedError
from thawlab.data.feature_store.entry import (
    META,
    Entry,
    EntryInfo,
    canonical,
    check_entry,
    count_hit,
    entry_name,
    open_entry,
)
from thawlab.data.feature_store.eviction import CacheUnavailable
from thawlab.data.feature_store.writer import Writer, unavailable
from thawlab.system.surroundings import shown

__all__ = ["Array", "CacheUnavailable", "Entry", "EntryInfo", "FeatureStore", "Writer"]

_LOST = (errno.ENOENT, errno.EIO, errno.ENOTDIR, errno.EISDIR)  # other errors, such as EACCES, say nothing of the entry
_QUIET_SECONDS = 1  # a wait that takes longer is spoken of


def _say_now(text: str) -> None:
    print(shown(text), flush=True)  # who waits must not find out afterwards, when the output goes into a file


class FeatureStore:
    """The entries in a folder, which need not exist.

    Args:
        root: the folder.
        max_bytes: the most that its entries may take together.
        say: is told, in a line, that this process waits for another one.
    """

    def __init__(self, root: Path, max_bytes: int, say: Callable[[str], object] = _say_now) -> None:
        self.root, self.max_bytes, self._say = root, max_bytes, say

    def name(self, key: Mapping[str, object]) -> str:
        """Name of the folder of what is stored under a key."""
        return entry_name(key)

    def has(self, key: Mapping[str, object]) -> bool:
        """Whether there is an entry, be it sound or not; nothing is read and no hit counted."""
        return (self.root / entry_name(key) / META).is_file()

    def find(self, key: Mapping[str, object]) -> Entry | None:
        """The entry stored under a key, read through and compared with its checksums; counts as a hit.

        One that is damaged is warned about and removed; then, and where there is none, the answer is None.
        """
        return self._find(key, locked=False)

    @contextmanager
    def writing(
        self, key: Mapping[str, object], rows: int, arrays: Sequence[Array], wait_seconds: float = 3600
    ) -> Iterator[Writer]:
        """Make the entry stored under a key, unless another process does: then wait for it.

        Several entries are written at a time by entering one after the other, by all processes in the order of their
        names: else two could wait for each other. The entry is complete, with `Writer.entry` set, after the `with`
        block; an exception in the block, or a row that is missing, leaves nothing behind.

        Args:
            key: plain JSON data.
            rows: of each array, at least one.
            arrays: what a row consists of.
            wait_seconds: how long to wait for another process.

        Raises:
            CacheUnavailable: it cannot be written, from the `with` itself, from `Writer.write`, or at the end.
            RuntimeError: at the end, if not every row was written.
        """
        if rows < 1 or not arrays:
            raise ValueError(f"rows={rows}, arrays={list(arrays)}: an entry has at least one of each")
        writer = Writer(self.root, key, rows, arrays)
        room.check_budget(sum(array.file_bytes(rows) for array in arrays), self.max_bytes)
        with unavailable(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            lock = room.lock(self.root, entry_name(key))
            self._wait(lock, wait_seconds)
        try:
            with unavailable(self.root):
                writer.entry = self._find(key, locked=True)
                if writer.entry is None:
                    self._need_place(key)
                    writer.begin(self.max_bytes)
            yield writer
            if writer.entry is None:
                with unavailable(self.root):
                    writer.finish()
        finally:
            writer.close()
            lock.release()

    def entries(self) -> list[EntryInfo]:
        """What is there, used least recently first. What killed processes left behind is removed."""
        room.clear(self.root)
        return room.entries(self.root)

    def being_filled(self) -> int:
        """How many entries are being made now."""
        return len(room.parts(self.root))

    def remove(self, name: str) -> None:
        """Remove an entry; processes that have it open go on reading it.

        Raises:
            OSError: it is not there, or cannot be removed.
        """
        room.remove(self.root / name)

    def damage(self, name: str) -> str | None:
        """Read an entry through; what is wrong with it, as a clause, or None."""
        try:
            meta = check_entry(self.root / name)
        except (DamagedError, OSError) as error:
            return _clause(error)
        return None if entry_name(meta["key"]) == name else "it belongs to another key"

    def _wait(self, lock: FileLock, seconds: float) -> None:
        with suppress(Timeout):
            lock.acquire(timeout=min(seconds, _QUIET_SECONDS))
            return
        entry = Path(lock.lock_file).with_suffix("")
        if seconds > _QUIET_SECONDS:
            self._say(f"another process is filling {entry}; this one waits for it, {seconds:g} s at most")
            with suppress(Timeout):
                lock.acquire(timeout=seconds - _QUIET_SECONDS)
                return
        raise CacheUnavailable(f"another process is filling {entry}, and was not ready after {seconds:g} s")

    def _find(self, key: Mapping[str, object], locked: bool) -> Entry | None:
        path = self.root / entry_name(key)
        found = _identity(path)
        if found is None:
            return None
        try:
            meta = check_entry(path)
            if canonical(meta["key"]) != canonical(key):
                raise DamagedError(f"{META} holds another key")
            entry = open_entry(path, meta, path)
        except (DamagedError, OSError) as error:
            self._give_up(path, found, error, locked)
            return None
        count_hit(path)
        return entry

    def _need_place(self, key: Mapping[str, object]) -> None:
        path = self.root / entry_name(key)
        if _identity(path) is not None:  # found out now, and not once everything is computed
            raise CacheUnavailable(f"{path}: there is one that cannot be used, and it could not be removed")

    def _give_up(self, path: Path, found: tuple[int, int], error: DamagedError | OSError, locked: bool) -> None:
        """Warn about an entry that cannot be used, and remove it if it is damaged."""
        if _identity(path) != found:
            return  # another process removed it meanwhile, to make room or for its damage
        if isinstance(error, OSError) and error.errno not in _LOST:
            warnings.warn(f"{path}: {_clause(error)}; the entry is left alone, and nothing is cached", stacklevel=4)
            return
        warnings.warn(f"{path}: {_clause(error)}; the entry is removed, and it is computed anew", stacklevel=4)
        with suppress(OSError, Timeout):
            if locked:
                return room.remove(path)
            with room.lock(self.root, path.name).acquire(timeout=0):  # whoever holds it is making it anew
                if _identity(path) == found:
                    room.remove(path)


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a folder from the next one of the same name; None if there is none."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns


def _clause(error: DamagedError | OSError) -> str:
    if isinstance(error, DamagedError):
        return str(error)
    name = Path(os.fsdecode(error.filename)).name if error.filename else "an array"
    return f"{name} cannot be read: {error.strerror}"
