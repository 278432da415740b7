"""A folder that one process at a time writes: a run's, or a sweep's."""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from thawlab.config.schema import ConfigError
from thawlab.system.atomic import remove_partial, write_atomically
from thawlab.tracking.processes import is_alive, this_process

_LOCK = "holder.lock"  # empty; the system gives the lock back when the process dies, however it does
_HOLDER = "holder"  # `host:pid:start` of the process that holds the lock
_SECONDS = 15.0  # in which the workers of a process that was killed end, and with them what they inherited


@contextmanager
def held(folder: Path, key: str) -> Iterator[None]:
    """Hold a folder, which is made if it is missing, while the block runs.

    What earlier processes left half written in it is removed first.

    Args:
        folder: what only this process may write meanwhile.
        key: the setting that named it, `resume=ID`, for the message.

    Raises:
        ConfigError: another process holds it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _acquired(folder, key)
    except OSError as error:
        remedy = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "make it writable"
        raise ConfigError(
            f"{key}: {folder} cannot be written ({error.strerror or error}); {remedy}, or name another folder by "
            "hydra.run.dir=FOLDER"
        ) from error
    try:
        yield
    finally:
        _leave(folder, lock)


def _acquired(folder: Path, key: str) -> FileLock:
    lock = FileLock(folder / _LOCK)
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            # The lock can outlive the process that took it by what its workers take to notice.
            if is_alive(_holder(folder)) is not False or time.monotonic() > deadline:
                raise _in_use(folder, key) from None
            time.sleep(0.2)
            continue
        # Some network disks give a lock to everyone who asks.
        if is_alive(_holder(folder)) and _holder(folder) != this_process():
            lock.release()
            raise _in_use(folder, key)
        remove_partial(folder)
        try:
            write_atomically(folder / _HOLDER, this_process())
        except OSError:
            _leave(folder, lock)
            raise
        return lock


def _leave(folder: Path, lock: FileLock) -> None:
    (folder / _HOLDER).unlink(missing_ok=True)
    if [each.name for each in folder.iterdir()] == [_LOCK]:
        (folder / _LOCK).unlink()  # nothing came of it: an empty folder can be removed
    lock.release()


def _holder(folder: Path) -> str:
    with suppress(OSError):
        return (folder / _HOLDER).read_text(encoding="utf-8")
    return ""


def _in_use(folder: Path, key: str) -> ConfigError:
    return ConfigError(f"{key}: {at_work(_holder(folder))} is still at work in {folder}; wait for it, or end it first")


def at_work(process: str) -> str:
    """`host:pid:start` in words."""
    host, pid, _ = ["", "", "", *process.rsplit(":", 2)][-3:]
    if not pid:
        return "another process"
    return f"process {pid} on {host}" + (" (this machine)" if host == os.uname().nodename else "")
