"""A signal to a command that waits for another process."""

import os
import signal
import sys
import threading
import time

import pytest

from thawlab.launch.process import run_child
from thawlab.system import stopping

# Loses the first signal, as Python does where a handler's exception comes up in a finaliser.
DEAF_ONCE = """
import signal, sys, time
heard = []
def hear(signum, frame):
    heard.append(signum)
    if len(heard) == 2:
        sys.exit(130)
signal.signal(signal.SIGINT, hear)
open(sys.argv[1], "w").close()
time.sleep(60)
time.sleep(60)
"""


def test_a_signal_that_was_lost_is_passed_on_when_it_is_given_again(tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "REPEAT_SECONDS", 0.2)
    ready = tmp_path / "ready"

    def press() -> None:
        while not ready.exists():
            time.sleep(0.02)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.4)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=press)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_child([sys.executable, "-c", DEAF_ONCE, str(ready)])
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
