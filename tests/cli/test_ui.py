import os
import socket
import sys
from pathlib import Path

import pytest

from thawlab.cli import ui
from thawlab.tracking.run import start_run
from thawlab.tracking.store import Store, open_store


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def started(monkeypatch):
    """What the command starts, in place of starting it: the page's server, then what waits for it."""
    commands = []
    monkeypatch.setattr(os, "execve", lambda _, command, environment: commands.append((command[1:], environment)))
    monkeypatch.setattr(ui, "_watch_from_beside", commands.append)
    return commands


def store_in(folder: str = "mlruns") -> Store:
    store = open_store(f"sqlite:///{Path.cwd()}/{folder}/mlflow.db", Path(folder))
    start_run(store, "digits", name="one", params={}, tags={}).end("FINISHED")
    return store


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_the_page_of_a_store_that_is_not_there_is_refused(capsys, started):
    assert ui.ui(["--root", "nowhere"]) == 2
    assert capsys.readouterr().err == "error: --root=nowhere: no store there yet; a run makes one\n"
    assert ui.ui(["uri=sqlite:///nowhere/runs.db"]) == 2
    assert capsys.readouterr().err == "error: --uri=sqlite:///nowhere/runs.db: no store there yet; a run makes one\n"
    assert (started, list(Path.cwd().iterdir())) == ([], [])


def test_the_page_is_started_on_loopback_with_links_for_each_experiment(capsys, started):
    store, port = store_in(), free_port()
    ui.ui(["--port", str(port)])
    page = f"http://127.0.0.1:{port}/#/experiments/1/runs?workflowType=machine_learning"
    lines = capsys.readouterr().out.splitlines()
    assert f"digits: {page}&viewStateShareKey=thawlab" in lines
    assert any(line.strip() == f"{page}&viewStateShareKey=thawlab-best&compareRunsMode=CHART" for line in lines)
    watched, (server, environment) = started
    assert watched == f"http://127.0.0.1:{port}"
    assert server[-4:] == ["--host", "127.0.0.1", "--port", str(port)]
    assert store.uri not in server  # whoever lists the machine's processes would read a password in it
    assert environment["MLFLOW_BACKEND_STORE_URI"] == store.uri


def test_the_page_imports_nothing_from_the_working_folder(started):
    store_in()
    ui.ui([])
    server, environment = started[-1]
    assert server[0] == "-P"
    assert environment["UVICORN_APP_DIR"] in sys.path


def test_a_port_that_is_taken_is_left_for_another_one(capsys, started):
    store_in()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ui.ui([f"port={port}"])
    used = int(started[-1][0][-1])
    assert used > port
    assert f"port {port} is taken, so it is port {used}" in capsys.readouterr().out


@pytest.mark.parametrize("given", [["root=elsewhere"], ["tracking.root=elsewhere"], ["--root=elsewhere"]])
def test_a_folder_that_is_named_comes_before_the_environment(started, monkeypatch, given):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    store = store_in("elsewhere")
    ui.ui(given)
    assert started[-1][1]["MLFLOW_BACKEND_STORE_URI"] == store.uri


def test_the_environments_database_is_shown_where_nothing_is_named(started, monkeypatch):
    store = store_in("elsewhere")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    ui.ui([])
    assert started[-1][1]["MLFLOW_BACKEND_STORE_URI"] == store.uri


def test_a_server_that_does_not_answer_is_named(capsys, started):
    assert ui.ui(["uri=http://127.0.0.1:1"]) == 2
    assert "tracking.uri=http://127.0.0.1:1: no usable MLflow server there" in capsys.readouterr().err
    assert started == []


def test_the_page_is_ready_for_nobody_when_its_process_has_ended(capsys):
    with pytest.raises(ProcessLookupError):
        os.kill(2**22 + 1, 0)  # above the highest process id that Linux gives
    ui._say_when_ready("http://127.0.0.1:1", 2**22 + 1)
    assert capsys.readouterr().out == ""
