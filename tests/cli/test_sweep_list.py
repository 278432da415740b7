"""`thawlab sweeps` lists the sweeps of a store."""

import re

import pytest

from compare.synthetic import Made, add, fresh_store
from thawlab.cli.sweeps import sweeps
from thawlab.tracking.store import experiment
from thawlab.tracking.taken_over import naming


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    store = fresh_store(tmp_path_factory.mktemp("empty"))
    experiment(store, "unused")
    return store.database


@pytest.fixture
def store(tmp_path, monkeypatch, tables):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return fresh_store(tmp_path / "mlruns", tables)


def add_sweep(store, name, statuses, of="digits", **tags):
    parent = Made(
        name=f"sweep seed={name}",
        bare=True,
        status=tags.pop("status", "FINISHED"),
        tags={"sweep_dir": "x", "sweep_id": name, "sweep_jobs": str(len(statuses)), **tags},
    )
    runs = [Made({"seed": seed}, parent=parent.run_id, status=each) for seed, each in enumerate(statuses) if each]
    return add(store, [parent, *runs], of)


def listed(capsys, *arguments):
    capsys.readouterr()
    code = sweeps(arguments)
    out, error = capsys.readouterr()
    return code, re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "DATE", out), error


def test_sweeps_are_listed_with_what_came_of_them_the_newest_first(store, capsys):
    answer = "freeze=2 is best, test/acc 93.1 % [91, 95]; freeze=0 is worse. Copying the layers pays."
    add_sweep(store, "first", ["FINISHED"] * 2, **{"summary.conclusion": answer})
    add_sweep(store, "second", ["FINISHED", "FAILED", "KILLED", None, None], status="KILLED")
    assert listed(capsys) == (
        0,
        "DATE  digits  seed=second\n"
        "  1 done, 1 failed, 3 missing, stopped before its end\n"
        "  not compared\n"
        "  sweep=second\n\n"
        "DATE  digits  seed=first\n"
        "  2 done\n"
        "  freeze=2 is best, test/acc 93.1 % [91, 95]; freeze=0 is worse\n"
        "  sweep=first\n\n",
        "",
    )


def test_runs_that_were_taken_over_are_done_and_those_that_were_deleted_are_missing(store, capsys):
    first = add_sweep(store, "first", ["FINISHED"] * 2)
    _, mine, gone = add_sweep(store, "more", ["FINISHED"] * 2, sweep_jobs="4", **naming(first[1:], {}))
    store.client().delete_run(gone)
    assert "seed=more\n  3 done, 1 missing\n" in listed(capsys)[1]
    assert mine


def test_each_of_the_heads_that_are_trained_together_is_a_run(store, capsys):
    parent = Made(name="sweep x", bare=True, tags={"sweep_dir": "x", "sweep_jobs": "2", "sweep_runs": "6"})
    heads = [Made({"seed": seed}, parent=parent.run_id, tags={"heads": "3"}) for seed in range(4)]
    add(store, [parent, *heads])
    assert "  4 done, 2 missing\n" in listed(capsys)[1]


def test_a_run_that_failed_and_was_done_since_has_not_failed(store, capsys):
    parent = Made(name="sweep x", bare=True, tags={"sweep_dir": "x", "sweep_jobs": "1"})
    tries = [Made({"seed": 0}, parent=parent.run_id, status=each) for each in ("FAILED", "FINISHED")]
    add(store, [parent, *tries])
    assert "  1 done\n" in listed(capsys)[1]


def test_one_experiment_and_the_latest_ones_can_be_asked_for(store, capsys):
    for number in range(3):
        add_sweep(store, f"d{number}", ["FINISHED"])
    add_sweep(store, "other", ["FINISHED"], of="photos")
    assert re.findall("sweep=(.*)", listed(capsys, "experiment=digits")[1]) == ["d2", "d1", "d0"]
    found = listed(capsys, "--last", "2")[1]
    assert re.findall("sweep=(.*)", found) == ["other", "d2"]
    assert found.endswith("there are earlier ones: last=4\n")
    code, out, error = listed(capsys, "experiment=digitz")
    assert (code, out) == (2, "")
    assert error.startswith("error: experiment=digitz: there is no such experiment in ")
    assert error.endswith("; use digits\n")


def test_a_store_without_sweeps_or_none_at_all_is_told(store, capsys, tmp_path):
    assert listed(capsys)[:2] == (0, f"{store.uri}: no sweep yet; train.py -m … starts one\n")
    code, _, error = listed(capsys, "root=nowhere")
    assert code == 2
    assert error.startswith(f"error: root={tmp_path}/nowhere: there is no store mlflow.db there; ")
    assert not (tmp_path / "nowhere").exists()
    assert listed(capsys, "root=a", "uri=b")[2].startswith("error: root=a uri=b: each of these names a store; use one")


def test_what_is_mistyped_is_refused(capsys):
    for wrong in ("last=0", "last=x", "experimnt=x", "digits"):
        with pytest.raises(SystemExit) as stopped:
            sweeps([wrong])
        assert stopped.value.code == 2
