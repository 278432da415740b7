"""How the processes that decode images start: forked, or where several processes train, by a server without threads.

A fork copies the locks that other threads hold at that moment, and in the copy nobody lets them go. Threads of
torch.distributed run Python when they like, and for that lock the interpreter's list of its threads, which CPython 3.11
locks in a forked process before it makes the lock anew: such a worker waits for ever. The server, multiprocessing's own
forkserver, has imported what workers need and has no other thread: a worker starts as fast as by a fork.
"""

import multiprocessing
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext, ForkServerContext, ForkServerProcess
from types import ModuleType
from typing import ClassVar
from weakref import WeakSet

from thawlab.system.process_rank import has_rank

# What a worker imports to decode and change images.
_IMPORTED_ONCE = ["thawlab.data.decoded_image_cache", "thawlab.data.formats"]
_SAFE_PATH = "PYTHONSAFEPATH"
# What torch says of workers that ended, where it cannot see how.
_ENDED = re.compile(r"DataLoader worker \(pid\(s\) ([\d, ]+)\) exited unexpectedly")


class ServedWorker(ForkServerProcess):
    """A worker that the server starts, and that ends with the process that it works for."""

    started: ClassVar["WeakSet[ServedWorker]"] = WeakSet()

    def start(self) -> None:
        start_server()
        with _without_program():
            super().start()
        self.started.add(self)

    def run(self) -> None:
        threading.Thread(target=_end_with_parent, daemon=True).start()
        super().run()


class ServedWorkers(ForkServerContext):
    """multiprocessing, with such workers."""

    Process = ServedWorker


def context() -> BaseContext:
    """How workers of this process start, and what they share is made."""
    methods = multiprocessing.get_all_start_methods()
    if has_rank() and "forkserver" in methods:
        return ServedWorkers()
    return multiprocessing.get_context("fork" if sys.platform == "linux" else None)


def start_server() -> None:
    """Start the server, if it is one that starts the workers of this process and does not run yet.

    It imports for as long as this process does, beside it, and so is asked for early. Files of the working folder are
    not imported, and Ctrl-C is left to this process, which then ends its workers.
    """
    if not isinstance(context(), ServedWorkers):
        return
    forkserver.set_forkserver_preload(_IMPORTED_ONCE)
    with _safe_path():
        resource_tracker.ensure_running()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which the server and its workers inherit
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextmanager
def _safe_path() -> Iterator[None]:
    """Start Python without the working folder among those of its modules, whatever the user has set for this one."""
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before


@contextmanager
def ends_told() -> Iterator[None]:
    """Let torch's error of a lost worker say what ended it, as it does for forked ones.

    Raises:
        RuntimeError: in torch's words.
    """
    try:
        yield
    except RuntimeError as error:
        found = _ENDED.search(str(error))
        lost = found[1].split(", ") if found else []
        for worker in ServedWorker.started:
            if str(worker.pid) in lost and (worker.exitcode or 0) < 0:
                how = signal.strsignal(-(worker.exitcode or 0))
                raise RuntimeError(f"DataLoader worker (pid {worker.pid}) is killed by signal: {how}. ") from error
        raise


@contextmanager
def _without_program() -> Iterator[None]:
    """Hide the program from multiprocessing, which would have each worker run its file once more, as a module."""
    program = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program


def _end_with_parent() -> None:
    """End when the process that this one works for has ended, however: torch asks after the server, its parent."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)
