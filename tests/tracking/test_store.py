import os
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from thawlab.tracking.history import epoch_history
from thawlab.tracking.run import start_run
from thawlab.tracking.store import Store, experiment, open_store
from thawlab.tracking.store_creation import is_made
from thawlab.tracking.ui_views import view_tags

FRESH = Path(__file__).parent / "fresh_store_program.py"


@pytest.fixture(autouse=True)
def no_server_of_the_users_own(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_four_jobs_at_once_on_a_fresh_store_lose_nothing(tmp_path):
    root = tmp_path / "mlruns"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    jobs = [
        subprocess.Popen([sys.executable, FRESH, root, f"job {n}"], env=environment, stderr=subprocess.PIPE, text=True)
        for n in range(4)
    ]
    complaints = [job.communicate(timeout=600)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0, 0, 0], complaints
    assert complaints == ["", "", "", ""]  # not a word about tables and migrations
    store = open_store(None, root)
    client = store.client()
    assert [found.name for found in client.search_experiments()] == ["sweep", "Default"]
    runs = client.search_runs([experiment(store, "sweep")], order_by=["attributes.run_name"])
    assert [(run.info.run_name, run.info.status) for run in runs] == [(f"job {n}", "FINISHED") for n in range(4)]
    assert [run.data.params["job"] for run in runs] == [f"job {n}" for n in range(4)]
    for run in runs:
        assert [row["train/loss"] for row in epoch_history(store, run.info.run_id)] == [1.0, 0.5, 1 / 3]
        assert (root / "artifacts" / run.info.run_id / "artifacts/config/config.yaml").read_text() == run.info.run_name


def test_the_local_store_is_a_database_with_its_artifacts_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store(None, Path("mlruns"))
    assert store == Store(f"sqlite:///{tmp_path}/mlruns/mlflow.db", f"file://{tmp_path}/mlruns/artifacts")
    assert store.database == tmp_path / "mlruns/mlflow.db"
    assert store.ui_command == "thawlab ui"
    assert open_store(None, tmp_path / "else where").ui_command == f"thawlab ui --root '{tmp_path}/else where'"
    assert list(tmp_path.iterdir()) == []  # opening makes nothing


def test_a_uri_of_ones_own_comes_before_the_environment_and_that_before_the_local_store(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    assert open_store(None, tmp_path) == Store("http://tracking.example:5000", None)
    assert open_store("", tmp_path) == Store("http://tracking.example:5000", None)
    mine = open_store("sqlite:///elsewhere/runs.db", tmp_path)
    assert mine == Store(f"sqlite:///{Path.cwd()}/elsewhere/runs.db", f"file://{Path.cwd()}/elsewhere/artifacts")
    shared = open_store("postgresql://db.example/mlflow", tmp_path)
    assert shared == Store("postgresql://db.example/mlflow", f"file://{tmp_path}/artifacts")
    assert open_store("http://other.example", tmp_path).ui_command == "http://other.example"


@pytest.mark.parametrize("folder", ["with a space", "ümläut", "hash#tag", "100%20", "why?x"])
def test_unusual_folder_names_hold_a_store(tmp_path, store, folder):
    root = tmp_path / folder
    store.database.parent.rename(root)
    run = start_run(open_store(None, root), "digits", name="first", params={}, tags={})
    run.log_text("hello", "config/config.yaml")
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder]
    assert (root / "artifacts" / run.id / "artifacts/config/config.yaml").read_text() == "hello"


@pytest.mark.parametrize("uri", ["file:./runs", "file:///tmp/runs", "./runs", "runs"])
def test_a_plain_folder_is_refused_with_the_way_out(tmp_path, monkeypatch, uri):
    with pytest.raises(ValueError, match=rf"tracking.uri={re.escape(uri)}: MLflow no longer .* use sqlite:///"):
        open_store(uri, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ValueError, match=rf"MLFLOW_TRACKING_URI={re.escape(uri)}: .* mlflow migrate-filestore"):
        open_store(None, tmp_path)


def test_a_server_that_is_not_there_is_told_within_seconds_and_once(tmp_path, caplog):
    started = time.monotonic()
    with pytest.raises(
        ValueError, match=r"tracking.uri=http://127.0.0.1:9: no usable MLflow server there .nothing answers"
    ):
        experiment(open_store("http://127.0.0.1:9", tmp_path), "digits")
    assert time.monotonic() - started < 20
    assert caplog.records == []
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ  # patient again afterwards


def test_a_file_that_is_no_database_is_told_at_once(tmp_path):
    (tmp_path / "mlflow.db").write_text("these are my notes, and far from a database")
    with pytest.raises(
        ValueError, match=r"cannot be used as a tracking store .file is not a database.; use tracking.uri"
    ):
        experiment(open_store(None, tmp_path), "digits")


def test_an_unknown_kind_of_address_is_told_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"tracking.uri=htp://typo: MLflow knows no store .* use http://typo, or"):
        open_store("htp://typo", tmp_path)


def test_an_experiment_is_made_once_for_the_training_view(store):
    first = experiment(store, "digits")
    assert experiment(store, "digits") == first
    found = store.client().get_experiment(first)
    assert found.artifact_location == store.artifacts
    assert found.tags == {"mlflow.experimentKind": "custom_model_development", **view_tags()}


def test_a_deleted_experiment_is_named_with_the_way_to_restore_it(store):
    number = experiment(store, "digits")
    store.client().delete_experiment(number)
    with pytest.raises(ValueError, match=f"experiment_name=digits: .* deleted; .*restore --experiment-id {number}"):
        experiment(store, "digits")


def test_a_moved_store_is_noticed_before_files_are_scattered(tmp_path, store):
    experiment(store, "digits")
    store.database.parent.rename(tmp_path / "moved")
    with pytest.raises(ValueError, match=f"its files are kept in {tmp_path}/mlruns/artifacts, which is gone"):
        experiment(open_store(None, tmp_path / "moved"), "digits")
    assert not (tmp_path / "mlruns").exists()


def left_while_it_was_made(path, tables):
    """What a process leaves that is killed while MLflow makes its tables."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        for name in tables:
            connection.execute(f"CREATE TABLE {name} (id INTEGER)")


@pytest.mark.parametrize("tables", [(), ("experiments", "runs"), ("runs", "alembic_version", "_alembic_tmp_metrics")])
def test_a_store_that_was_left_while_it_was_made_is_made_anew(tmp_path, tables):
    store = open_store(None, tmp_path)
    left_while_it_was_made(store.database, tables)
    (tmp_path / "mlflow.db-journal").write_bytes(b"of a process that was killed")
    (tmp_path / "mlflow.db.new").write_text("half of a store")
    assert not is_made(store.database)
    number = experiment(store, "digits")
    assert is_made(store.database)
    assert store.client().get_experiment(number).name == "digits"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "artifacts") == [
        "mlflow.db",
        "mlflow.db.lock",
    ]


def test_a_database_of_somebody_elses_keeps_its_tables(tmp_path):
    store = open_store(None, tmp_path)
    left_while_it_was_made(store.database, ["experiments_of_my_own"])
    experiment(store, "digits")
    with closing(sqlite3.connect(store.database)) as connection:
        assert connection.execute("SELECT count(*) FROM experiments_of_my_own").fetchone() == (0,)


def test_a_store_without_room_for_its_tables_is_told_and_nothing_is_left(tmp_path, monkeypatch):
    def no_room(_engine):
        (tmp_path / "mlflow.db.new").write_text("half of a store")
        raise OperationalError("CREATE TABLE", {}, sqlite3.OperationalError("database or disk is full"))

    monkeypatch.setattr("thawlab.tracking.store_creation._initialize_tables", no_room)
    with pytest.raises(ValueError, match=r"tracking.uri=.*database or disk is full"):
        experiment(open_store(None, tmp_path), "digits")
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db.lock"}
