"""`thawlab rerun`: a run repeated from what MLflow holds of it."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from real_runs import TINY, artifacts, client, only_run, runs, thawlab, train
from tiny_runs import make_images

from thawlab.tracking.run import Run as Tracker
from thawlab.tracking.run import start_run
from thawlab.tracking.store import open_store
from thawlab.tracking.sweeps import start_parent

OWN = (*TINY, "epochs=1", "freeze=all", "dataset=folder", "dataset.root=photos")


def rerun(folder: Path, *arguments: str):
    return thawlab(folder, "rerun", *arguments)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    make_images(folder / "photos")
    result = train(folder, *OWN, "seed=3")
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture
def copied(trained, tmp_path):
    """The store of the finished run and its images, to be changed."""
    folder = tmp_path / "copied"
    folder.mkdir()
    shutil.copytree(trained / "mlruns", folder / "mlruns")
    shutil.copytree(trained / "photos", folder / "photos")
    return folder


def test_a_run_repeated_on_the_same_machine_agrees_bit_for_bit(trained):
    (run,) = runs(trained)
    result = rerun(trained, run.info.run_id)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "agrees bit for bit: all probabilities of all 6 test images are equal" in result.stdout
    before, after = runs(trained)
    assert after.data.tags["rerun_of"] == run.info.run_id
    assert after.data.tags["rerun_agrees"] == "exactly"
    assert after.data.tags["rerun_verdict"].startswith("agrees bit for bit")
    assert str(after.info.run_name).startswith(f"rerun of {run.info.run_id[:8]}: backbone=test_resnet")
    assert f"repeats the run `{run.info.run_id}`" in after.data.tags["mlflow.note.content"]
    same = ("config_hash", "dataset_digest", "weights_digest", "overrides")
    assert [after.data.tags[key] for key in same] == [before.data.tags[key] for key in same]
    assert after.info.experiment_id == before.info.experiment_id
    for name, value in before.data.metrics.items():
        if name.startswith(("test/", "best/")):
            assert after.data.metrics[name] == value
    client(trained).delete_run(after.info.run_id)


def test_a_result_that_differs_is_told_in_numbers_and_by_the_exit_code(copied):
    run = only_run(copied)
    folder = copied / "mlruns" / "artifacts" / run.info.run_id / "artifacts"
    store = client(copied)
    table = pd.read_parquet(artifacts(run) / "predictions" / "test.parquet")
    classes = [name.removeprefix("p/") for name in table if name.startswith("p/")]
    for row in range(3):  # another class than the run named, and surely so
        other = next(name for name in classes if name != table.loc[row, "predicted"])
        table.loc[row, [f"p/{name}" for name in classes]] = [np.float32(name == other) for name in classes]
        table.loc[row, "predicted"] = other
    other = start_run(open_store(None, copied / "mlruns"), "folder", name="other", params={}, tags=dict(run.data.tags))
    (folder.parent / "changed").mkdir()
    table.to_parquet(folder.parent / "changed" / "test.parquet")
    other.log_artifact(folder.parent / "changed" / "test.parquet", "predictions")
    other.log_artifact(artifacts(run) / "config" / "config.yaml", "config")
    other.end("FINISHED")
    result = rerun(copied, other.id)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "differs: 3 of 6 predictions differ" in result.stdout
    (repeated,) = [each for each in runs(copied) if each.data.tags.get("rerun_of") == other.id]
    assert repeated.data.tags["rerun_agrees"] == "no"
    assert store.get_run(repeated.info.run_id).info.status == "FINISHED"


def test_a_folder_without_a_store_is_refused_and_stays_as_it_is(tmp_path):
    result = rerun(tmp_path, "0" * 32, "root=runs")
    assert result.returncode == 2
    assert result.stderr.startswith("error: root=runs: there is no store mlflow.db there; use root=FOLDER")
    assert list(tmp_path.iterdir()) == []


def test_other_images_are_refused_before_anything_is_trained(copied):
    run = only_run(copied)
    (copied / "photos" / "train" / "dark" / "0.png").unlink()
    result = rerun(copied, run.info.run_id)
    assert result.returncode == 2, result.stdout + result.stderr
    assert f"error: rerun={run.info.run_id}: the data set photos is not the one of that run" in result.stderr
    assert "train 18 → 17" in result.stderr
    assert "name their folder by dataset.root=" in result.stderr
    assert only_run(copied).info.run_id == run.info.run_id


def test_images_that_were_moved_are_named_by_a_setting_and_a_changed_environment_is_told(copied):
    run = only_run(copied)
    (copied / "photos").rename(copied / "moved")
    listed = artifacts(run) / "environment" / "requirements.txt"
    kept = listed.read_text()
    tracker = Tracker(open_store(None, copied / "mlruns"), run.info.run_id, run.info.experiment_id)
    assert re.fullmatch(r"cpu on \S+, \d+ threads?", run.data.tags["device"])
    tracker.set_tags({"git_commit": "0123456789abcdef", "device": "cpu on a64, 9 threads"})
    listed.write_text(re.sub("^timm==.*$", "timm==0.0.1", kept, flags=re.MULTILINE))
    try:
        result = rerun(copied, run.info.run_id, "dataset.root=moved", "root=mlruns")
    finally:
        listed.write_text(kept)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "commit: 0123456789ab → " in result.stdout
    assert "timm: 0.0.1 → " in result.stdout
    assert "it was trained on cpu on a64, 9 threads, and now on cpu on " in result.stdout
    assert "dataset.root=moved (was photos)" in result.stdout


def test_what_cannot_be_repeated_is_refused_in_one_message(copied):
    store = open_store(None, copied / "mlruns")
    finished = only_run(copied)
    parent = start_parent(store, "folder", "sweep", {"sweep_dir": "outputs/s", "overrides": "freeze=0,1"}, "")
    child = start_run(store, "folder", name="child", params={}, tags={}, parent_id=parent.id)
    child.end("FAILED")
    parent.end("FINISHED")
    bare = start_run(store, "folder", name="bare", params={}, tags={})
    bare.end("FINISHED")
    odd = start_run(store, "folder", name="odd", params={}, tags={})
    settings = yaml.safe_load((artifacts(finished) / "config" / "config.yaml").read_text())
    odd.log_text(yaml.safe_dump(settings | {"thaw": 3}), "config/config.yaml")
    odd.log_artifact(artifacts(finished) / "predictions" / "test.parquet", "predictions")
    odd.end("FINISHED")
    expected = {
        (parent.id,): f"this is the parent of a sweep, which trained nothing itself; use one of its runs: {child.id}",
        (child.id,): "this run is FAILED, so there is no result to compare with",
        (bare.id,): "its artifact config/config.yaml is missing",
        (odd.id,): "this version of thawlab does not take the settings of that run",
        ("abc",): "rerun=abc: there is no such run",
        (finished.info.run_id, "trainer=gpu"): "a group's keys are set, not the group",
        (finished.info.run_id, "freez=1"): "freez=1: no such key; nearest: freeze",
        (finished.info.run_id, "verbose"): "verbose: use KEY=VALUE after the run's id",
    }
    for arguments, message in expected.items():
        result = rerun(copied, *arguments)
        assert result.returncode == 2, result.stdout + result.stderr
        assert message in result.stderr
        assert "Traceback" not in result.stderr
    client(copied).delete_run(bare.id)
    assert "this run was deleted" in rerun(copied, bare.id).stderr
