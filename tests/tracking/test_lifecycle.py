"""How real trainings end: each case is a process of its own, with a real Lightning fit and real signals."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from thawlab.tracking.history import find_interrupted
from thawlab.tracking.lifecycle import Interrupted, tracked
from thawlab.tracking.run import start_run
from thawlab.tracking.store import open_store

PROGRAM = Path(__file__).parent / "fit_program.py"
INT, TERM, HUP, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL


@dataclass
class Ending:
    returncode: int
    errors: str
    status: str
    tags: dict
    metrics: dict
    files: list
    orphans: bool


# name: (the program's arguments, the signals it gets, whether its whole process group gets them as from a terminal)
CASES = {
    "ctrl_c": (["--workers", "2"], [INT], False),
    "ctrl_c_twice": (["--workers", "2"], [INT, INT], True),
    "sigterm": (["--workers", "2"], [TERM], True),
    "exception": (["--fail"], [], False),
    "terminal_closed_before_fit": (["--before-fit"], [HUP], False),
    "sigkill": (["--before-fit"], [KILL], False),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("endings")


@pytest.fixture(scope="module")
def endings(root):
    """All cases at once, on one fresh store: most of their time is imports and waiting."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    found: dict[str, Ending] = {}
    threads = [threading.Thread(target=_run, args=(root, name, environment, found)) for name in CASES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client = open_store(None, root).client()
    experiment_id = client.get_experiment_by_name("endings").experiment_id
    for run in client.search_runs([experiment_id]):
        ending = found[run.info.run_name]
        ending.status, ending.tags, ending.metrics = run.info.status, run.data.tags, run.data.metrics
        ending.files = [file.path for file in client.list_artifacts(run.info.run_id, "error")]
    return found


def _run(root, name, environment, found):
    arguments, signals, group = CASES[name]
    process = subprocess.Popen(
        [sys.executable, PROGRAM, root, name, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_heed_signals,  # noqa: PLW1509
    )
    if signals:
        assert process.stdout is not None
        while process.stdout.readline() not in ("READY\n", ""):
            pass  # Lightning has things to say first
    for signum in signals:
        (os.killpg if group else os.kill)(process.pid, signum)
        time.sleep(0.1)
    errors = process.communicate(timeout=600)[1]
    found[name] = Ending(process.returncode, errors, "", {}, {}, [], _has_members(process.pid))


def _heed_signals():
    """A test run under nohup, or in the background of a script, hands down signals that are ignored."""
    for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(signum, signal.SIG_DFL)


def _has_members(group):
    """Whether processes of the group still run, after the few seconds that dying may take."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.parametrize(
    ("name", "code"),
    [("ctrl_c", 130), ("ctrl_c_twice", 130), ("sigterm", 143), ("terminal_closed_before_fit", 129)],
)
def test_a_stopped_training_is_killed_in_mlflow_and_keeps_what_it_logged(endings, name, code):
    ending = endings[name]
    assert (ending.returncode, ending.status) == (code, "KILLED"), ending.errors
    assert ending.metrics == ({} if name == "terminal_closed_before_fit" else {"train/loss": 0.5})
    assert ending.files == []
    assert "error" not in ending.tags
    assert not ending.orphans  # the loader's workers are gone too


def test_an_exception_is_failed_in_mlflow_with_its_traceback(endings, root):
    ending = endings["exception"]
    assert (ending.returncode, ending.status, ending.files) == (1, "FAILED", ["error/traceback.txt"])
    assert ending.tags["error"] == "RuntimeError: the loss went through the roof"
    assert ending.metrics == {"train/loss": 0.5}
    assert "RuntimeError: the loss went through the roof" in ending.errors  # and still goes up to the caller
    (text,) = [path.read_text() for path in root.rglob("error/traceback.txt")]
    assert text.startswith("Traceback (most recent call last):")
    assert "in training_step" in text


def test_a_training_that_was_shot_can_be_resumed(endings, root):
    ending = endings["sigkill"]
    assert ending.returncode == -KILL
    assert ending.status in ("RUNNING", "KILLED")  # KILLED where another training began after its death
    resumable = find_interrupted(open_store(None, root), "endings", "sigkill")
    assert open_store(None, root).client().get_run(resumable).info.run_name == "sigkill"


@pytest.fixture
def run(store):
    return start_run(store, "digits", name="in process", params={}, tags={})


def status(run):
    return run.client.get_run(run.id).info.status


def test_a_block_that_ends_normally_is_finished_and_leaves_the_handlers_as_they_were(run):
    before = [signal.getsignal(signum) for signum in (INT, TERM, HUP)]
    with tracked([run]):
        assert status(run) == "RUNNING"
    assert status(run) == "FINISHED"
    assert [signal.getsignal(signum) for signum in (INT, TERM, HUP)] == before


def test_a_signal_while_the_run_is_being_closed_comes_after_its_status(run, monkeypatch):
    end = run.end
    monkeypatch.setattr(run, "end", lambda status: (os.kill(os.getpid(), TERM), end(status)))
    with pytest.raises(Interrupted) as caught, tracked([run]):
        pass
    assert (caught.value.exit_code, status(run)) == (143, "FINISHED")


def test_an_error_that_follows_a_signal_is_still_a_stop(run):
    def body():
        try:
            os.kill(os.getpid(), TERM)
            time.sleep(5)
        finally:
            raise RuntimeError("a worker was killed by the same signal")

    with pytest.raises(Interrupted, match="stopped by SIGTERM"), tracked([run]):
        body()
    assert status(run) == "KILLED"


def test_lightnings_way_to_leave_after_ctrl_c_is_an_interrupt_and_a_plain_exit_is_a_failure(store):
    runs = [start_run(store, "digits", name=name, params={}, tags={}) for name in ("interrupt", "exit")]

    def leave():
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    with pytest.raises(Interrupted) as caught, tracked([runs[0]]):
        leave()
    with pytest.raises(SystemExit), tracked([runs[1]]):
        sys.exit(1)
    assert (caught.value.exit_code, [status(run) for run in runs]) == (130, ["KILLED", "FAILED"])


def test_a_rank_without_a_run_is_interrupted_all_the_same():
    with pytest.raises(Interrupted, match="stopped by SIGTERM"), tracked([]):
        signal.raise_signal(TERM)


def test_an_ignored_signal_stays_ignored(run):
    before = signal.signal(HUP, signal.SIG_IGN)  # as under nohup
    try:
        with tracked([run]):
            os.kill(os.getpid(), HUP)
        assert status(run) == "FINISHED"
    finally:
        signal.signal(HUP, before)


def test_a_store_that_is_gone_does_not_hide_what_went_wrong(run, monkeypatch):
    def gone(*_):
        raise MlflowException("the server is gone")

    monkeypatch.setattr(run, "log_text", gone)
    with pytest.raises(RuntimeError, match="the real trouble") as caught, tracked([run]):
        raise RuntimeError("the real trouble")
    assert caught.value.__notes__ == [f"The run {run.id} could not be marked FAILED: the server is gone"]


def test_tracking_works_outside_the_main_thread(run):
    def body():
        with tracked([run]):
            pass

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert status(run) == "FINISHED"
