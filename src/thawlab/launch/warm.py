"""Jobs of a sweep that are forked from one process which has everything loaded: the side of the sweep.

`warm_process.py` is that process. Each process that starts jobs has one of its own: a sweep, or each worker of a
parallel launcher. It serves one job after the other.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from threading import Lock

from thawlab.tracking.processes import is_alive, named

PROGRAM = ("-P", "-m", "thawlab.launch.warm_process")
"""What Python is given for the process that forks; the number of a file, its end of the line, comes after it."""
_LOST = 128 + signal.SIGKILL  # the code of a job of which nobody can tell how it ended


class _Server:
    """The process that forks, and the line to it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self.line, other = socket.socketpair()
        with other:
            self.process = subprocess.Popen(
                [sys.executable, *PROGRAM, str(other.fileno())],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                process_group=0,  # Ctrl-C in a terminal is for the sweep, which tells its job
            )
        self._answers = self.line.makefile()

    def ask(self, folder: str, output: int | None) -> None:
        """Let it fork the job of a folder, whose output goes to its own or to a file that is open here.

        Raises:
            OSError: it is gone.
        """
        socket.send_fds(self.line, [json.dumps(folder).encode() + b"\n"], [] if output is None else [output])

    def answer(self) -> int | None:
        """What it says next: a job's process, then the code that it ended with; None if it is gone."""
        with suppress(OSError):
            if said := self._answers.readline():
                return int(said)
        return None

    def stop(self) -> None:
        """End it, though it may still be loading; a job at work goes on."""
        self._answers.close()
        self.line.close()
        self.process.terminate()
        self.process.wait()


_server: _Server | None = None
_in_use = Lock()


def begin(environment: Mapping[str, str]) -> None:
    """Start the process that forks, unless there is one for jobs in this environment."""
    global _server  # noqa: PLW0603  (one for each process, whoever starts jobs in it)
    if _server is not None and _server.environment == environment:
        return
    end()
    _server = _Server(environment)


def end() -> None:
    """End the process that forks."""
    global _server
    server, _server = _server, None
    if server is not None:
        server.stop()


class Forked:
    """A job in a fork, in the place of `subprocess.Popen`.

    Raises:
        OSError: none can be forked; a new process may tell why.
    """

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        stdin: int | None,
        stdout: int | None,
        stderr: int | None,
        process_group: int,
    ) -> None:
        if not _in_use.acquire(blocking=False):  # a launcher whose jobs are threads
            raise OSError("a job is at work in it")
        try:
            begin(env)
            assert _server is not None
            self._server = _server
            self._server.ask(command[-1], stdout)
            pid = self._server.answer()
            if pid is None:
                raise OSError("the process that forks is gone")
        except BaseException:  # or it was stopped while it waited: without the one that forks, nothing is forked
            end()
            _in_use.release()
            raise
        self.pid, self._name = pid, named(pid)

    def send_signal(self, signum: int) -> None:
        """As `Popen` has it."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signum)

    def wait(self) -> int:
        """As `Popen` has it; the code of a job whose process that forked it is gone is taken from its folder."""
        try:
            code = self._server.answer()
            if code is None:
                end()
                while is_alive(self._name):
                    time.sleep(0.1)
            return _LOST if code is None else code
        finally:
            _in_use.release()
