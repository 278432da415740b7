import json
import re
import signal
from pathlib import Path

import pytest
from real_runs import (
    TINY,
    Started,
    artifacts,
    best_weights,
    first_epoch_saved,
    processes_in,
    run_folders,
    runs,
    same,
    train,
)

import thawlab

ONE_EPOCH = (*TINY, "epochs=1")
DIVERGING = ("optimizer=sgd", "trainer.clip=null")
PARENT = "mlflow.parentRunId"


def family(folder: Path):
    """The sweep's parent and its children, in the order of the jobs."""
    (parent,) = [run for run in runs(folder) if PARENT not in run.data.tags]
    children = [run for run in runs(folder) if run.data.tags.get(PARENT) == parent.info.run_id]
    assert 1 + len(children) == len(runs(folder))
    number = {run.info.run_id: int(Path(run.data.tags["output_dir"]).name) for run in children}
    return parent, sorted(children, key=lambda run: number[run.info.run_id])


def settings_of(children, *keys: str):
    return [tuple(run.data.params[key] for key in keys) for run in children]


def jobs_of(parent):
    return json.loads((artifacts(parent) / "sweep" / "jobs.json").read_text())


def assert_four_finished(folder: Path, stdout: str) -> None:
    parent, children = family(folder)
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 5
    assert settings_of(children, "freeze", "seed") == [("0", "0"), ("0", "1"), ("all", "0"), ("all", "1")]
    assert settings_of(children, "freeze_depth") == [("0",), ("0",), ("4",), ("4",)]
    assert (parent.data.params["freeze"], parent.data.params["seed"]) == ("0,all", "0,1")
    sweep_ids = {run.data.tags["sweep_id"] for run in (parent, *children)}
    assert sweep_ids == set(run_folders(folder))
    for row, run in zip(jobs_of(parent), children, strict=True):
        assert (row["run_id"], row["status"]) == (run.info.run_id, "FINISHED")
        assert row["test/acc"] == run.data.metrics["test/acc"]
    kept = {path.name for path in (artifacts(parent) / "comparison").rglob("*")}
    assert {"report.html", "table.csv", "table.md", "table.tex", "pairs.csv", "comparison.json"} <= kept
    assert parent.data.metrics["summary/configurations"] == 2
    accuracies = [run.data.metrics["test/acc"] for run in children]
    best = max(sum(accuracies[:2]), sum(accuracies[2:])) / 2
    assert parent.data.metrics["summary/best_mean"] == pytest.approx(best)
    assert parent.data.tags["summary.best"] in ("freeze=0", "freeze=all", "freeze=0 = freeze=all")
    conclusion = r"(is best,|leads with|are tied:) test/acc"
    assert re.search(conclusion, stdout)
    assert re.search(conclusion, parent.data.tags["mlflow.note.content"])
    assert {path.name for path in folder.iterdir()} == {"mlruns", "outputs"}
    assert not same(best_weights(children[0]), best_weights(children[1]))


@pytest.mark.slow
def test_four_jobs_at_once_on_a_fresh_store_are_all_kept(tmp_path):
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=4")
    result = train(tmp_path, "-m", *launcher, "freeze=0,all", "seed=0,1", *ONE_EPOCH)
    assert result.returncode == 0, result.stdout + result.stderr
    assert_four_finished(tmp_path, result.stdout)


@pytest.mark.slow
def test_four_jobs_in_turn_are_all_kept(tmp_path):
    result = train(tmp_path, "-m", "freeze=0,all", "seed=0,1", *ONE_EPOCH)
    assert result.returncode == 0, result.stdout + result.stderr
    assert_four_finished(tmp_path, result.stdout)


def test_a_sweep_goes_on_when_a_job_fails_and_names_it_also_to_python(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    results = thawlab.train("-m", "optimizer.lr=1e30,0.001", *DIVERGING, *ONE_EPOCH)
    stdout = capsys.readouterr().out
    assert isinstance(results, thawlab.Results), stdout
    assert [(run.status, run.config["optimizer"]["lr"]) for run in results] == [("FAILED", 1e30), ("FINISHED", 1e-3)]
    assert str(results[0].error).startswith("optimizer.lr=1e+30: ")
    correct = results[1].predictions().eval("label == predicted")
    assert results[1].metrics["test/acc"] == pytest.approx(correct.mean())
    parent, children = family(tmp_path)
    assert (parent.info.run_id, parent.info.status) == (results.parent_id, "FAILED")
    assert {each.data.params["optimizer.lr"]: each.info.status for each in children} == {
        "1e+30": "FAILED",
        "0.001": "FINISHED",
    }
    assert "error: 1 of 2 runs did not finish: run 1 (optimizer.lr=1e+30): FAILED" in stdout
    assert "the training loss is not finite" in stdout
    assert [(row["label"], row["status"]) for row in jobs_of(parent)] == [
        ("optimizer.lr=1e+30", "FAILED"),
        ("optimizer.lr=0.001", "FINISHED"),
    ]


@pytest.mark.slow
def test_a_job_that_fails_beside_others_shows_the_end_of_its_log(tmp_path):
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    result = train(tmp_path, "-m", *launcher, "optimizer.lr=1e30,0.001", *DIVERGING, *ONE_EPOCH)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "    error: optimizer.lr=1e+30: the training loss is not finite" in result.stdout
    assert "error: 1 of 2 runs did not finish: run 1 (optimizer.lr=1e+30): FAILED" in result.stderr


@pytest.mark.slow
def test_a_distributed_sweep_runs_each_job_once(tmp_path):
    two = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")
    result = train(tmp_path, "-m", "freeze=0,all", *ONE_EPOCH, *two)
    assert result.returncode == 0, result.stdout + result.stderr
    parent, children = family(tmp_path)
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 3
    assert settings_of(children, "freeze", "trainer.devices") == [("0", "2"), ("all", "2")]
    (sweep,) = (tmp_path / "outputs").iterdir()
    assert {path.name for path in sweep.iterdir() if path.is_dir()} == {"0", "1"}
    assert {path.name for path in tmp_path.iterdir()} == {"mlruns", "outputs"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher", [(), ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")], ids=["basic", "joblib"]
)
def test_ctrl_c_ends_a_sweep_and_the_jobs_at_work(tmp_path, launcher):
    started = Started(tmp_path, "-m", *launcher, "seed=0,1,2", *TINY, "epochs=50")
    code = started.when(first_epoch_saved(tmp_path)).end_by_ctrl_c()
    assert code == 130, started.output()
    parent, children = family(tmp_path)
    assert parent.info.status == "KILLED"
    assert 1 <= len(children) <= 2
    assert {run.info.status for run in children} == {"KILLED"}
    assert processes_in(tmp_path) == []


def test_a_sweep_that_was_killed_goes_on_with_what_is_missing_in_its_own_runs(tmp_path):
    command = ("-m", "freeze=0,all", *TINY, "epochs=3")
    started = Started(tmp_path, *command)
    assert started.when(first_epoch_saved(tmp_path)).end_by(signal.SIGKILL) == -signal.SIGKILL
    begun = {run.info.run_id for run in runs(tmp_path)}
    result = train(tmp_path, *command, "resume=true")
    assert result.returncode == 0, result.stdout + result.stderr
    parent, children = family(tmp_path)
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 3
    assert settings_of(children, "freeze") == [("0",), ("all",)]
    assert begun == {parent.info.run_id, children[0].info.run_id}
    assert children[0].data.tags["resumed"] == "1"
    assert [(row["label"], row["status"]) for row in jobs_of(parent)] == [
        ("freeze=0", "FINISHED"),
        ("freeze=all", "FINISHED"),
    ]
    assert parent.data.metrics["summary/configurations"] == 2
    result = train(tmp_path, *command, "resume=true")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"the sweep is finished: {parent.info.run_id}; nothing to go on with" in result.stdout
    assert len(runs(tmp_path)) == 3
    assert len(run_folders(tmp_path)) == 1


@pytest.mark.slow
def test_a_sweep_that_is_terminated_leaves_no_process(tmp_path):
    started = Started(tmp_path, "-m", "seed=0,1", *TINY, "epochs=50")
    code = started.when(first_epoch_saved(tmp_path)).end_by(signal.SIGTERM)
    assert code == 143, started.output()
    parent, (child,) = family(tmp_path)
    assert (parent.info.status, child.info.status) == ("KILLED", "KILLED")
    assert processes_in(tmp_path) == []


@pytest.mark.slow
def test_a_study_of_ones_own_is_a_file_in_experiments(tmp_path):
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "mine.yaml").write_text(
        "# @package _global_\nepochs: 1\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      freeze: 0,1\n"
    )
    result = train(tmp_path, "-m", "experiment=mine", *TINY)
    assert result.returncode == 0, result.stdout + result.stderr
    parent, children = family(tmp_path)
    assert settings_of(children, "freeze", "epochs") == [("0", "1"), ("1", "1")]
    assert parent.info.run_name == "mine freeze=0,1"
