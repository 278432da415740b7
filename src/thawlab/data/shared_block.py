"""Memory that a process shares with its workers, those that are forked and those that are not."""

import mmap
import os
import weakref
from collections.abc import Callable
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd
from typing import Any


class SharedBlock:
    """So many bytes, zero at first, that stand in no folder: nothing is left of them however the processes end.

    A forked process has them without further ado, and one that is started anew when it is handed them as an argument.

    Args:
        size: how many.
        received: the file descriptor of a block that was sent to this process, which does not send it on.

    Attributes:
        data: the bytes; pages are taken from the system as they are written.

    Raises:
        OSError: the system has not that much.
    """

    def __init__(self, size: int, received: int | None = None) -> None:
        self._file = _file_without_name(size) if received is None else None
        file = received if self._file is None else self._file
        self.data = mmap.mmap(-1 if file is None else file, size)  # with a file descriptor of its own
        if self._file is not None:
            weakref.finalize(self, os.close, self._file)

    @property
    def can_be_sent(self) -> bool:
        """Whether what is pickled now goes to a process that is being started, and this with it."""
        return self._file is not None and is_starting_process()

    def __reduce__(self) -> tuple[Callable[..., "SharedBlock"], tuple[Any, ...]]:
        if not self.can_be_sent:
            raise TypeError("shared memory is handed to a process while that is started, and to no other")
        assert self._file is not None
        return _received, (DupFd(self._file), len(self.data))


def is_starting_process() -> bool:
    """Whether what is pickled now goes to a process that is being started."""
    return get_spawning_popen() is not None


def _received(file: Any, size: int) -> SharedBlock:
    number = file.detach()
    try:
        return SharedBlock(size, number)
    finally:
        os.close(number)


def _file_without_name(size: int) -> int | None:
    """A file in memory; None where the system has no such thing: then only forked processes share the block."""
    if not hasattr(os, "memfd_create"):
        return None
    try:
        file = os.memfd_create("thawlab")
    except OSError:
        return None
    try:
        os.ftruncate(file, size)
    except OSError:  # a limit on the sizes of files, which is not meant for memory
        os.close(file)
        return None
    return file
