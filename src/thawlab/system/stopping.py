"""Signals that ask a process to stop."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

REPEAT_SECONDS = 2.0  # a double press, or a signal sent both to the group and by the parent, counts once
# Ctrl-C, a scheduler or `kill`, a closed terminal.
STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
ORDERS = tuple(each for each in STOP_SIGNALS if each != signal.SIGINT)  # all but what Python itself answers


def stopped_by(signum: int) -> KeyboardInterrupt:
    """The interrupt to raise for a signal; `exit_code` is what a shell expects."""
    stop = KeyboardInterrupt()
    stop.exit_code = 128 + signum  # type: ignore[attr-defined]
    return stop


def handle_stops(
    handler: Callable[[int, FrameType | None], None],
    signals: Sequence[int] = STOP_SIGNALS,
    always: Sequence[int] = (),
) -> dict[int, Any]:
    """Install a handler, in the main thread; returns those it replaces.

    What is ignored stays so, as SIGHUP under nohup and SIGINT in a script's background job, but for `always`.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}  # Python lets only the main thread handle signals
    heard = [each for each in signals if each in always or signal.getsignal(each) not in (signal.SIG_IGN, None)]
    return {each: signal.signal(each, handler) for each in heard}


def leave_closed_terminal(signum: int) -> None:
    """After SIGHUP send what is printed nowhere: writing to a terminal that is gone fails, and so would the closing."""
    if signum != getattr(signal, "SIGHUP", None):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and os.isatty(stream.fileno()):
                os.dup2(nowhere, stream.fileno())
        except (OSError, ValueError):  # it is no file, or closed
            continue
    os.close(nowhere)
