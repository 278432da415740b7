"""How a run ends: FINISHED, FAILED with its traceback, or KILLED by Ctrl-C or a signal."""

import os
import signal
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mlflow.exceptions import MlflowException

from thawlab.config.divergence import DivergedError
from thawlab.config.lost_workers import lost_worker
from thawlab.system.stopping import REPEAT_SECONDS, handle_stops, leave_closed_terminal
from thawlab.tracking.run import ERROR_FILE, Run
from thawlab.tracking.store import impatient


class Interrupted(KeyboardInterrupt):
    """The user, a scheduler or a closed terminal asked this process to stop.

    A KeyboardInterrupt, so that Lightning shuts down its loaders and child processes, and so that nothing that handles
    errors takes it for one.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """What a shell expects: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP."""
        return 128 + self.signum


class _StopSignals:
    """Raises Interrupted in the main thread on a stop signal, until it is told to only take note."""

    def __init__(self) -> None:
        self.first: int | None = None  # the signal that came first
        self._last = -REPEAT_SECONDS
        self._closing = False
        self._owner = os.getpid()
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        self._before = handle_stops(self._handle)

    def restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def only_take_note(self) -> None:
        """From now on a signal is remembered but stops nothing: the run is being closed."""
        self._closing = True

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._owner:  # a forked worker: it has no run to close
            if signum == signal.SIGINT:
                raise KeyboardInterrupt  # what PyTorch's loader workers expect, and end on quietly
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
            return
        leave_closed_terminal(signum)
        now = time.monotonic()
        repeated = now - self._last < REPEAT_SECONDS
        self._last = now
        self.first = self.first or signum
        if not (self._closing or repeated):
            raise Interrupted(signum)


@contextmanager
def tracked(runs: Sequence[Run]) -> Iterator[None]:
    """Give the runs that are open at the end of the block the status that it ends with; what was logged stays.

    FINISHED if it ends normally; KILLED on SIGINT, SIGTERM or SIGHUP; FAILED on any other exception, with the traceback
    as `error/traceback.txt` and its last line as the tag `error`. Runs that are added to the list in the block count,
    too. Without any, as in the other processes of a distributed run, it only turns signals into Interrupted.

    Lightning answers Ctrl-C by `sys.exit(1)`, and SIGTERM only after the batch or the epoch; here both come out as
    Interrupted at once. A second signal while the run is being closed changes nothing.

    Raises:
        Interrupted: after a stop signal; the caller exits with its `exit_code`.
    """
    signals = _StopSignals()
    signals.install()
    try:
        try:
            yield
        except BaseException as error:
            signals.only_take_note()
            signum = signals.first or (signal.SIGINT if _is_interrupt(error) else None)
            for run in _open(runs):
                _close(run, error, "FAILED" if signum is None else "KILLED")
            if signum is None:
                raise
            raise Interrupted(signum) from error
        signals.only_take_note()
        for run in _open(runs):
            run.end("FINISHED")
        if signals.first is not None:  # while closing: the run is whole, what follows it is not wanted
            raise Interrupted(signals.first)
    finally:
        signals.restore()


@contextmanager
def isolated(run: Run) -> Iterator[None]:
    """Let an error in the block fail this run alone, and no other that is trained together with it."""
    try:
        yield
    except Exception as error:
        _close(run, error, "FAILED")
    else:
        run.end("FINISHED")


def _open(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.status is None]


def _close(run: Run, error: BaseException, status: Any) -> None:
    try:
        if not _is_interrupt(error):
            text = "".join(traceback.format_exception(error))
            with impatient():
                run.log_text(text, ERROR_FILE)
                run.set_tags(failure_tags(error))
        run.end(status)
    except (MlflowException, OSError) as failure:
        # The store is gone or full; what stopped the run matters more, and is on its way up.
        error.add_note(f"The run {run.id} could not be marked {status}: {failure}")


def failure_tags(error: BaseException) -> dict[str, str]:
    """What a run that failed says of it: `error`, and `diverged` where its numbers were not finite."""
    if isinstance(error, DivergedError):
        return {"error": str(error), "diverged": error.where}
    if lost := lost_worker(error):
        return {"error": str(lost)}
    return {"error": "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]}


def _is_interrupt(error: BaseException) -> bool:
    """Whether it is, or was raised while handling, a KeyboardInterrupt: Lightning's `sys.exit(1)` is."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, KeyboardInterrupt):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
