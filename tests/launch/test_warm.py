"""Jobs that are forked from one process: each is as alone as in a process of its own."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from thawlab.launch import warm
from thawlab.launch.process import run_child
from thawlab.tracking.processes import is_alive

STUB = Path(__file__).with_name("warm_stub.py")


@pytest.fixture(autouse=True)
def stub(monkeypatch):
    monkeypatch.setattr(warm, "PROGRAM", ("-P", str(STUB)))
    yield
    warm.end()


def job(folder: Path, program: str, output: int | None = None, **environment: str) -> int:
    """The code of a job that runs the program."""
    folder.mkdir(exist_ok=True)
    (folder / "job.py").write_text(program)
    return run_child(["job", str(folder)], {**os.environ, **environment}, output, warm.Forked)


def server() -> int:
    assert warm._server is not None
    return warm._server.process.pid


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("", 0),
        ("import sys; sys.exit(3)", 3),
        ("raise ValueError('no')", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137),
        ("import os; os._exit(5)", 5),
    ],
)
def test_a_job_ends_with_its_own_code_and_the_next_one_runs(tmp_path, program, code):
    assert job(tmp_path / "one", program) == code
    first = server()
    assert job(tmp_path / "two", "(folder / 'seen').write_text('')") == 0
    assert (tmp_path / "two" / "seen").exists()
    assert server() == first


def test_nothing_that_a_job_changes_reaches_the_next_one(tmp_path):
    changes = "import os, sys, random; os.chdir('/'); os.environ['X'] = '1'; sys.changed = True; random.seed(0)"
    looks = (
        "import os, sys; assert 'X' not in os.environ and not hasattr(sys, 'changed'); "
        "(folder / 'seen').write_text(os.getcwd())"
    )
    assert job(tmp_path / "one", changes) == 0
    assert job(tmp_path / "two", looks) == 0
    assert (tmp_path / "two" / "seen").read_text() == str(Path.cwd())


def test_two_jobs_do_not_draw_the_same_random_numbers(tmp_path):
    draws = "import random; (folder / 'drawn').write_text(str(random.random()))"
    for name in ("one", "two"):
        assert job(tmp_path / name, draws) == 0
    assert (tmp_path / "one" / "drawn").read_text() != (tmp_path / "two" / "drawn").read_text()


def test_what_a_job_prints_goes_into_the_file_that_is_open_for_it(tmp_path):
    with (tmp_path / "log").open("w") as log:
        assert job(tmp_path / "one", "import os; print('said'); os.system('echo by a child')", log.fileno()) == 0
    assert sorted((tmp_path / "log").read_text().splitlines()) == ["by a child", "said"]


def test_a_job_in_another_environment_has_that_environment(tmp_path):
    tells = "import os; (folder / 'device').write_text(os.environ.get('DEVICE', 'none'))"
    assert job(tmp_path / "one", tells) == 0
    first = server()
    assert job(tmp_path / "two", tells, DEVICE="1") == 0
    assert server() != first
    assert [(tmp_path / name / "device").read_text() for name in ("one", "two")] == ["none", "1"]


def test_a_job_is_in_a_process_group_of_its_own(tmp_path):
    tells = "import os; (folder / 'group').write_text(f'{os.getpid()} {os.getpgid(0)}')"
    assert job(tmp_path / "one", tells) == 0
    process, group = (tmp_path / "one" / "group").read_text().split()
    assert process == group


def test_a_signal_reaches_the_job(tmp_path):
    folder = tmp_path / "one"
    waits = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: ((folder / 'told').write_text(''), sys.exit(143)))\n"
        "(folder / 'ready').write_text('')\n"
        "time.sleep(60)"
    )

    def stop() -> None:
        while not (folder / "ready").exists() or signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        job(folder, waits)
    thread.join()
    assert (folder / "told").exists()


def test_if_the_process_that_forks_is_killed_its_job_goes_on_and_another_takes_its_place(tmp_path):
    kills = (
        "import os, signal, time\n"
        "os.kill(os.getppid(), signal.SIGKILL)\n"
        "time.sleep(0.5)\n"
        "(folder / 'done').write_text('')"
    )
    assert job(tmp_path / "one", kills) == 128 + signal.SIGKILL  # nobody can tell how it ended
    assert (tmp_path / "one" / "done").exists()
    assert job(tmp_path / "two", "") == 0


def test_if_none_can_be_forked_that_is_an_oserror_which_a_new_process_may_explain(tmp_path, monkeypatch):
    monkeypatch.setattr(warm, "PROGRAM", ("-c", "import sys; sys.exit(1)"))
    with pytest.raises(OSError, match="gone"):
        job(tmp_path, "")


def test_the_process_that_forks_ends_with_the_one_that_asks(tmp_path):
    program = (
        "import os, sys; from thawlab.launch import warm; from thawlab.tracking.processes import named;"
        f"warm.PROGRAM = ('-P', {str(STUB)!r}); warm.begin(os.environ);"
        "print(named(warm._server.process.pid), flush=True); os.kill(os.getpid(), 9)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False).stdout.strip()
    assert said
    deadline = time.monotonic() + 20
    while is_alive(said):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_many_jobs_leave_the_process_that_forks_as_it_was(tmp_path):
    job(tmp_path / "first", "")
    files, memory = _files_and_memory(server())
    for number in range(40):
        job(tmp_path / str(number), "data = bytearray(10_000_000)")
    after_files, after_memory = _files_and_memory(server())
    assert after_files == files
    assert after_memory < memory + 1_000_000


def _files_and_memory(pid: int) -> tuple[int, int]:
    """How many files a process has open, and how many bytes it keeps."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return len(list(Path(f"/proc/{pid}/fd").iterdir())), pages * os.sysconf("SC_PAGE_SIZE")


LOOKS_AT_NOTHING = """
import threading, torch

def looked_at(*_, **__):
    raise AssertionError("a GPU was looked at")

for name in ("is_available", "device_count", "init", "_lazy_init"):
    setattr(torch.cuda, name, looked_at)
from thawlab.launch.warm_process import preload
preload()
assert threading.active_count() == 1, threading.enumerate()
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
assert not SqlAlchemyStore._engine_map
"""


def test_what_is_loaded_once_starts_no_thread_looks_at_no_gpu_and_opens_no_store():
    found = subprocess.run([sys.executable, "-P", "-c", LOOKS_AT_NOTHING], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
