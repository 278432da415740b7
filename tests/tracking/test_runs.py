import math

import pytest
import yaml

from thawlab.tracking.history import epoch_history, read_text
from thawlab.tracking.processes import this_process
from thawlab.tracking.run import start_run
from thawlab.tracking.sweeps import set_note


def start(store, **changes):
    settings = {"name": "freeze=4 seed=0", "params": {"freeze": 4}, "tags": {"config_hash": "abc"}}
    return start_run(store, "digits", **{**settings, **changes})


def stored(run):
    return run.client.get_run(run.id)


def test_a_run_starts_with_its_params_its_tags_and_where_it_comes_from(store):
    run = start(store, parent_id="a1b2", note="**digits**", params={"freeze": 4, "optimizer": {"lr": 0.1}})
    found = stored(run)
    assert (found.info.status, found.info.run_name, found.info.user_id) == (
        "RUNNING",
        "freeze=4 seed=0",
        found.data.tags["mlflow.user"],
    )
    assert found.data.params == {"freeze": "4", "optimizer.lr": "0.1"}
    expected = {
        "config_hash": "abc",
        "process": this_process(),
        "mlflow.parentRunId": "a1b2",
        "mlflow.note.content": "**digits**",
        "mlflow.runName": "freeze=4 seed=0",
        "mlflow.source.type": "LOCAL",
    }
    assert {key: found.data.tags.get(key) for key in expected} == expected


def test_many_and_long_params_are_all_kept_up_to_mlflows_limit(store):
    params = {f"key{n}": n for n in range(250)} | {"short": "x" * 6000, "long": "y" * 7000, "a@b": "c"}
    kept = stored(start(store, params=params)).data.params
    assert len(kept) == 253
    assert kept["short"] == "x" * 6000
    assert kept["long"] == "y" * 5999 + "…"
    assert kept["a_b"] == "c"


def test_what_is_not_a_number_is_stored_as_such_and_told_once(store):
    run = start(store)
    run.log_metrics({"train/loss": math.inf, "val/loss": 0.5}, step=0)
    run.log_metrics({"train/loss": math.nan, "val/loss": math.nan}, step=1)
    run.log_metrics({"train/loss": math.nan, "acc@1": 0.25}, step=2)
    history = epoch_history(store, run.id)
    assert [math.isnan(row["train/loss"]) for row in history] == [True, True, True]
    assert history[0]["val/loss"] == 0.5
    assert stored(run).data.tags["nonfinite"] == "train/loss=inf at step 0; val/loss=nan at step 1"
    assert stored(run).data.metrics["acc_1"] == 0.25
    with pytest.raises(ValueError, match="acc=1: MLflow would store this metric as acc_1, like acc@1"):
        run.log_metrics({"acc=1": 0.5}, step=3)


def test_files_folders_texts_and_plain_data_are_kept_where_they_are_told(store, tmp_path):
    run = start(store)
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots/a.png").write_bytes(b"png")
    (tmp_path / "best.ckpt").write_bytes(b"weights")
    run.log_artifact(tmp_path / "best.ckpt", "checkpoints")
    run.log_artifact(tmp_path / "plots", "plots")
    run.log_text("freeze: 4", "config/config.yaml")
    run.log_dict([{"name": "stem"}], "stages.json")
    folder = store.database.parent / "artifacts" / run.id / "artifacts"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"checkpoints/best.ckpt", "plots/a.png", "config/config.yaml", "stages.json"}


def test_each_split_is_a_dataset_input_of_its_own(store):
    run = start(store)
    sizes = {"train": 100, "val": 20, "test": 30}
    run.log_datasets(sizes, "digits", "0123456789" * 5, ["zero", "one"], "photos/")
    inputs = {entry.tags[0].value: entry.dataset for entry in stored(run).inputs.dataset_inputs}
    assert {role: dataset.name for role, dataset in inputs.items()} == {
        "train": "digits/train",
        "val": "digits/val",
        "test": "digits/test",
    }
    assert inputs["val"].profile == '{"num_rows": 20, "num_classes": 2, "classes": ["zero", "one"]}'
    assert inputs["val"].source == '{"uri": "photos/"}'
    assert inputs["val"].digest == ("0123456789" * 5)[:36]


def test_a_resumed_run_is_the_same_run_and_keeps_its_params(store):
    first = start(store, params={"freeze": 4, "epochs": 3, "seed": 0}, name="original")
    first.log_metrics({"train/loss": math.inf}, step=0)
    first.end("KILLED")
    for _ in range(2):
        again = start(store, params={"freeze": 4, "epochs": 9, "lr": 0.1}, resume_id=first.id, tags={"fresh": 1})
    found = stored(again)
    assert again.id == first.id
    assert (found.info.status, found.info.run_name) == ("RUNNING", "original")
    assert found.data.params == {"freeze": "4", "epochs": "3", "seed": "0", "lr": "0.1"}
    assert found.data.tags["config_drift"] == "epochs: 3 → 9; seed: 0 → gone"
    assert (found.data.tags["resumed"], found.data.tags["fresh"], found.data.tags["config_hash"]) == ("2", "1", "abc")
    again.log_metrics({"train/loss": math.nan}, step=1)
    assert stored(again).data.tags["nonfinite"] == "train/loss=inf at step 0"
    again.end("FINISHED")
    assert stored(again).info.status == "FINISHED"


def test_a_run_to_resume_that_is_not_there_is_told_with_the_latest_ones(store):
    known = start(store)
    with pytest.raises(
        ValueError, match=f"resume=abc: there is no such run in .*; the latest are {known.id} .freeze=4"
    ):
        start(store, resume_id="abc")
    known.client.delete_run(known.id)
    with pytest.raises(ValueError, match=f"resume={known.id}: this run was deleted; the store has no runs"):
        start(store, resume_id=known.id)


def test_a_run_that_failed_and_is_resumed_says_no_longer_that_it_failed(store):
    run = start(store)
    run.log_text("Traceback: the disk is full", "error/traceback.txt")
    run.set_tags({"error": "OSError: the disk is full"})
    start(store, resume_id=run.id)
    tags = stored(run).data.tags
    assert "error" not in tags
    assert tags["earlier_error"] == "OSError: the disk is full"
    for _ in range(2):
        assert read_text(store, run.id, "error/traceback.txt") == (
            "Before the run was resumed:\n\nTraceback: the disk is full"
        )
        start(store, resume_id=run.id)


def test_a_password_in_an_address_is_kept_nowhere(store, tmp_path):
    address = "postgresql://ann:S3CRET@db/runs?sslpassword=S3CRET"
    typed = [f"tracking.uri={address}", "dataset.root=https://S3CRET@host/images"]
    run = start(
        store,
        name=" ".join(typed),
        params={"tracking": {"uri": address}, "note": {"of": [address]}},
        tags={"overrides": "\n".join(typed)},
        note=f"`python train.py {' '.join(typed)}`",
    )
    run.log_text(yaml.safe_dump({"tracking": {"uri": address}}), "config/config.yaml")
    run.log_text(yaml.safe_dump(typed), "config/overrides.yaml")
    run.log_dict([{"command": typed}], "stages.json")
    run.log_datasets({"train": 3}, typed[1], "digest", ["a", "b"], address)
    set_note(store, run.id, f"**result** of {address}")
    run.set_tags({"error": f"no answer from {address}"})
    run.end("FAILED")
    start_run(store, f"at {address}", name="again", params={}, tags={}, resume_id=None)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 4
    assert [path for path in files if b"S3CRET" in path.read_bytes()] == []
    assert "***@db/runs" in stored(run).data.tags["overrides"]


def test_the_address_of_a_server_is_not_printed_at_the_end_of_a_run(monkeypatch, capsys):
    from mlflow.entities import Run, RunData, RunInfo
    from mlflow.store.tracking.rest_store import RestStore
    from mlflow.tracking import MlflowClient
    from mlflow.utils.rest_utils import MlflowHostCreds

    ended = Run(RunInfo("0" * 32, "1", "user", "FINISHED", 0, 1, "active", run_name="a run"), RunData())
    store = RestStore(lambda: MlflowHostCreds("http://someone:secret@127.0.0.1:1"))
    monkeypatch.setattr(store, "get_run", lambda _: ended)
    monkeypatch.setattr(store, "update_run_info", lambda *_, **_named: ended.info)
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._get_store", lambda *_: store)
    monkeypatch.setattr("mlflow.tracking._tracking_service.client.utils._get_store", lambda *_: store)
    MlflowClient("http://someone:secret@127.0.0.1:1").set_terminated("0" * 32)
    assert "secret" not in capsys.readouterr().out
