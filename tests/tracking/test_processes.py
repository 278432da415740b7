import os
import socket
import subprocess
import sys

from thawlab.tracking.processes import _started, is_alive, this_process


def test_a_process_is_alive_until_it_ends_even_unreaped():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = f"{socket.gethostname()}:{child.pid}:{_started(child.pid)}"
    assert is_alive(this_process()) is True
    assert is_alive(name) is True
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, but still in the process table
    assert is_alive(name) is False
    child.wait()
    assert is_alive(name) is False


def test_a_number_given_to_another_process_is_not_the_old_one():
    assert is_alive(f"{socket.gethostname()}:{os.getpid()}:1") is False


def test_another_machine_cannot_be_seen():
    assert is_alive("another-host:1:1") is None
    assert is_alive(None) is None
    assert is_alive("nonsense") is None
