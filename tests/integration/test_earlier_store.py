"""Runs that an earlier version recorded are compared, repeated and resumed by this one."""

import sqlite3
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from real_runs import client, runs, thawlab, train

ARCHIVE = Path(__file__).parent / "earlier_store" / "store.tar.xz"


def _moved(value: Any, folder: Path) -> Any:
    """The same value with the paths of where the store is now."""
    if isinstance(value, str):
        return value.replace("/earlier", str(folder))
    if type(value) is dict:
        return {_moved(key, folder): _moved(each, folder) for key, each in value.items()}
    return type(value)(_moved(each, folder) for each in value) if type(value) in (list, tuple) else value


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A folder with the earlier version's `mlruns/`, `outputs/` and `weights.safetensors`."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    for path in (path for path in tmp_path.rglob("*") if path.suffix in (".sql", ".json", ".yaml", ".txt")):
        path.write_text(_moved(path.read_text(encoding="utf-8"), tmp_path), encoding="utf-8")
    for path in tmp_path.rglob("*.ckpt"):
        torch.save(_moved(torch.load(path, weights_only=True), tmp_path), path)
    script = tmp_path / "mlruns" / "mlflow.sql"
    database = sqlite3.connect(tmp_path / "mlruns" / "mlflow.db")
    database.executescript(script.read_text(encoding="utf-8"))
    database.close()
    script.unlink()
    return tmp_path


def experiment(folder: Path, name: str) -> list[Any]:
    """The runs of an experiment that are no parents, the first one first."""
    store = client(folder)
    found = store.search_runs([store.get_experiment_by_name(name).experiment_id], order_by=["start_time"])
    return [run for run in found if "config_hash" in run.data.tags]


def test_an_earlier_sweep_is_compared_with_the_result_it_had(earlier):
    sweep = experiment(earlier, "depths")[0].data.tags["mlflow.parentRunId"]
    result = thawlab(earlier, "compare", f"sweep={sweep}", "out=compared")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "lr=0.1" in result.stdout
    assert "18.4 % [15.9, 21.2]" in result.stdout
    assert "10.8 %" in result.stdout
    assert "worse by 7.6 points" in result.stdout


def test_earlier_heads_of_one_pass_are_compared(earlier):
    result = thawlab(earlier, "compare", "experiment=heads", "out=compared")
    assert result.returncode == 0, result.stdout + result.stderr
    accuracy = {run.data.params["optimizer.lr"]: [] for run in experiment(earlier, "heads")}
    for run in experiment(earlier, "heads"):
        accuracy[run.data.params["optimizer.lr"]].append(run.data.metrics["test/acc"])
    for values in accuracy.values():
        assert f"{100 * sum(values) / 2:.1f} %" in result.stdout


def test_an_earlier_run_that_was_stopped_is_resumed_to_the_result_that_it_would_have_had(earlier):
    (stopped,) = experiment(earlier, "stopped")
    assert stopped.info.status == "KILLED"
    result = train(earlier, f"resume={stopped.info.run_id}", "tracking.root=mlruns")
    assert result.returncode == 0, result.stdout + result.stderr
    run = client(earlier).get_run(stopped.info.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["best/epoch"] == 18
    assert run.data.metrics["test/acc"] == pytest.approx(0.40892, abs=1e-5)
    epochs = {each.step for each in client(earlier).get_metric_history(stopped.info.run_id, "val/acc")}
    assert epochs == set(range(20))


def test_an_earlier_run_is_repeated_and_agrees(earlier):
    run = experiment(earlier, "depths")[0]
    result = thawlab(earlier, "rerun", run.info.run_id)
    assert result.returncode == 0, result.stdout + result.stderr
    again = next(each for each in runs(earlier) if each.data.tags.get("rerun_of") == run.info.run_id)
    assert again.data.metrics["test/acc"] == pytest.approx(run.data.metrics["test/acc"], abs=0.005)
