import os
import subprocess
import sys
import time

from thawlab.launch.owners import owned
from thawlab.tracking.processes import this_process

# Waits for a process that it starts, and that says when it was asked to stop.
WATCHED = """
import signal, sys, time
from thawlab.launch import owners
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("asked to stop", flush=True)))
print("ready", flush=True)
owners.end_with_owner()
time.sleep(60)
"""
OWNER = f"""
import os, subprocess, sys
from thawlab.launch.owners import owned
subprocess.run([sys.executable, "-c", {WATCHED!r}], env=owned(os.environ))
"""


def test_a_process_ends_in_order_when_the_one_that_waits_for_it_is_killed():
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "ready\n"
    owner.kill()
    owner.wait()
    assert owner.stdout.read() == "asked to stop\n"  # read to its end: nobody holds the pipe any more


def test_an_owner_that_ended_before_the_process_began_is_missed_as_well():
    environment = owned({**os.environ, "THAWLAB_OWNERS": this_process().rpartition(":")[0] + ":1"})
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", WATCHED], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.endswith("asked to stop\n")
    assert time.monotonic() - began < 50


def test_a_process_under_nobody_goes_on():
    environment = {key: value for key, value in os.environ.items() if key != "THAWLAB_OWNERS"}
    program = WATCHED.replace("time.sleep(60)", "time.sleep(1.5); print('still here')")
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "ready\nstill here\n"
