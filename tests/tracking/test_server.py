"""The same runs on a tracking server: a real one, on this machine only."""

import os
import signal
import socket
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from mlflow.exceptions import MlflowException

from thawlab.tracking.history import epoch_history, find_interrupted, read_run
from thawlab.tracking.lifecycle import tracked
from thawlab.tracking.run import start_run
from thawlab.tracking.store import open_store

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/server.db",
        "--artifacts-destination",
        str(tmp_path / "kept"),
    ]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=tmp_path, stdout=quiet, stderr=quiet, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    for _ in range(300):
        try:
            urlopen(f"{address}/health", timeout=5)
            break
        except (URLError, OSError):
            time.sleep(1)
    yield process
    stop(process)


def stop(process):
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def fail_in_epoch_three(run):
    with tracked([run]):
        for epoch in range(3):
            run.log_metrics({"train/loss": float("inf") if epoch == 1 else 0.5}, step=epoch)
        run.log_text("freeze: 4\n", "config/config.yaml")
        run.log_datasets({"train": 100}, "digits", "0" * 64, ["a", "b"], "photos/")
        raise RuntimeError("the loss went through the roof")


def test_a_server_keeps_all_that_the_local_store_does(server, tmp_path):
    store = open_store(None, tmp_path / "mlruns")
    tags = {"config_hash": "abc", "output_dir": "outputs/1"}
    params = {"freeze": 4, "empty": "", "long": "ü" * 6000} | {f"key{n}": "ü" * 2000 for n in range(150)}
    run = start_run(store, "digits", name="on a server", params=params, tags=tags)
    with pytest.raises(RuntimeError):
        fail_in_epoch_three(run)
    assert find_interrupted(store, "digits", "abc") == run.id
    past = read_run(store, run.id)
    assert (past.status, past.config, past.params["freeze"], past.params["empty"]) == ("FAILED", "freeze: 4\n", "4", "")
    assert (past.params["long"], len(past.params)) == ("ü" * 6000, 153)
    assert past.tags["error"] == "RuntimeError: the loss went through the roof"
    assert [row["train/loss"] for row in epoch_history(store, run.id)] == pytest.approx(
        [0.5, float("nan"), 0.5], nan_ok=True
    )
    with pytest.raises(ValueError, match="resume=abc: there is no such run"):
        read_run(store, "abc")
    again = start_run(store, "digits", name="", params=params, tags=tags, resume_id=run.id)
    assert again.id == run.id
    assert not (tmp_path / "mlruns").exists()


def test_a_server_that_went_away_holds_nobody_up(server, tmp_path):
    run = start_run(open_store(None, tmp_path), "digits", name="abandoned", params={}, tags={})
    stop(server)
    started = time.monotonic()
    with pytest.raises(RuntimeError) as caught, tracked([run]):
        raise RuntimeError("the real trouble")
    assert time.monotonic() - started < 30
    assert f"The run {run.id} could not be marked FAILED" in caught.value.__notes__[0]
    with pytest.raises(MlflowException), tracked([run]):
        pass
