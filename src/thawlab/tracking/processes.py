"""Telling whether the process that writes a run is still there."""

import os
import socket
from pathlib import Path

PROCESS_TAG = "process"
"""The tag that names the writing process as `host:pid:start`."""


def this_process() -> str:
    """`host:pid:start` of this process."""
    return named(os.getpid())


def named(pid: int) -> str:
    """`host:pid:start` of a process of this machine."""
    return f"{socket.gethostname()}:{pid}:{_started(pid) or ''}"


def is_alive(process: str | None) -> bool | None:
    """Whether the process named `host:pid:start` still runs; None if that cannot be seen from this machine."""
    host, pid, start = ["", "", *(process or "").rsplit(":", 2)][-3:]
    if host != socket.gethostname() or not pid.isdigit():
        return None
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it exists, and belongs to somebody else
    return not start or _started(int(pid)) == start  # else the number was given to another process


def _started(pid: int) -> str | None:
    """When the process started, in clock ticks since boot; None for a zombie, and where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # the name before ")" may hold spaces
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]
