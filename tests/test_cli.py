import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import thawlab
from thawlab import cli
from thawlab.tracking.runs import start_run
from thawlab.tracking.store import open_store

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("THAWLAB_TRACEBACK", raising=False)


def test_help_fits_a_screen_and_lists_groups_and_keys(capsys):
    with pytest.raises(SystemExit) as stopped:  # Hydra ends by itself here
        cli.train(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert len(lines) <= 50
    for word in ("augment", "backbone", "dataset", "optimizer", "scheduler", "strategy", "tracking", "trainer"):
        assert any(line.strip().startswith(word) for line in lines), word
    for word in ("efficientnet_lite0", "linear_probe", "freeze", "transfer", "resume", "-m", "--cfg job"):
        assert word in text


def test_cfg_job_prints_every_setting_without_hydra(capsys):
    assert cli.train(["--cfg", "job", "freeze=4", "optimizer=lamb"]) == 0
    text = capsys.readouterr().out
    assert "freeze: 4" in text
    assert "name: lamb" in text
    assert "searchpath" not in text
    assert list(Path().iterdir()) == []


def test_a_mistake_is_one_message_without_a_traceback(capsys):
    assert cli.train(["epochs=0", "seed=-1"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "error: epochs=0: use a value greater than or equal to 1",
        "       seed=-1: use a value greater than or equal to 0",
    ]


def test_the_traceback_of_a_mistake_is_there_for_those_who_ask(capsys, monkeypatch):
    monkeypatch.setenv("THAWLAB_TRACEBACK", "1")
    assert cli.train(["epochs=0"]) == 2
    error = capsys.readouterr().err
    assert "Traceback (most recent call last)" in error
    assert error.splitlines()[-1].endswith("epochs=0: use a value greater than or equal to 1")


def test_a_mistake_in_one_job_of_a_sweep_starts_nothing(capsys, tmp_path):
    assert cli.train(["-m", "freeze=0,4", "epochs=1,0", "seed=0,-1", f"tracking.root={tmp_path}/mlruns"]) == 2
    captured = capsys.readouterr()
    assert "run 1" not in captured.out
    assert captured.err.splitlines() == [
        "error: seed=-1: use a value greater than or equal to 0",
        "       epochs=0: use a value greater than or equal to 1",
    ]
    assert not (tmp_path / "mlruns").exists()
    assert "THAWLAB_SWEEP" not in os.environ


def test_a_sweep_over_a_choice_that_is_not_there_starts_nothing(capsys, tmp_path):
    assert cli.train(["-m", "dataset=digits,foldr", f"tracking.root={tmp_path}/mlruns"]) == 2
    assert capsys.readouterr().err.startswith("error: dataset=foldr: no such dataset; nearest: folder")
    assert not (tmp_path / "mlruns").exists()


def test_a_sweep_over_a_key_that_is_not_there_starts_nothing(capsys, tmp_path):
    assert cli.train(["-m", "freez=0,4", f"tracking.root={tmp_path}/mlruns"]) == 2
    assert capsys.readouterr().err == "error: freez=0,4: no such key; nearest: freeze, resume\n"
    assert not (tmp_path / "mlruns").exists()


def test_the_page_of_a_store_that_is_not_there_is_refused(capsys):
    assert cli.ui(["--root", "nowhere"]) == 2
    assert capsys.readouterr().err == "error: --root=nowhere: no store there yet; a run makes one\n"


def test_the_page_is_started_on_loopback_with_a_link_for_each_experiment(capsys, monkeypatch):
    store = open_store(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db", Path("mlruns"))
    run = start_run(store, "digits", name="one", params={}, tags={})
    run.end("FINISHED")
    started = []
    monkeypatch.setattr(os, "execve", lambda *command: started.append(command))
    cli.ui(["--port", "5001"])
    page = f"http://127.0.0.1:5001/#/experiments/{run.experiment_id}/runs?workflowType=machine_learning"
    assert f"digits: {page}" in capsys.readouterr().out.splitlines()
    ((_, arguments, _),) = started
    assert arguments[-5:] == [store.uri, "--host", "127.0.0.1", "--port", "5001"]


def test_the_command_says_what_it_can(capsys):
    cli.main(["--version"])
    assert capsys.readouterr().out.strip() == thawlab.__version__
    cli.main([])
    assert capsys.readouterr().out.startswith("usage: thawlab COMMAND")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["trian"])
    assert stopped.value.code == 2
    assert "trian: no such command; use train, ui or strategies" in capsys.readouterr().err


def test_train_py_and_the_command_are_the_same():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"thawlab": "thawlab.cli:main"}
    result = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "freez=4"], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: freez=4: no such key; nearest: freeze, resume\n"
