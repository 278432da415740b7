import json

import pytest

from thawlab.config.schema import ConfigError
from thawlab.launch import sweep_folder
from thawlab.launch.sweep_folder import claimed
from thawlab.tracking.processes import this_process


def refused(folder, told, error: Exception | None = None):
    with pytest.raises(ConfigError, match=told), claimed(folder, parent_id=None):
        raise error or AssertionError


def test_a_folder_holds_one_sweep(tmp_path):
    folder = tmp_path / "mine"
    with claimed(folder, parent_id=None):
        refused(folder, r"hydra.sweep.dir=.*mine: there is another sweep in this folder")
        (folder / "sweep.json").write_text(json.dumps({"parent_id": "a1", "title": "sweep seed=0,1"}))
    refused(folder, r"another sweep \(sweep seed=0,1\).* resume=true")
    with pytest.raises(ConfigError, match="another sweep"), claimed(folder, "b2"):
        raise AssertionError
    with claimed(folder, "a1"):
        pass
    assert json.loads((folder / "sweep.json").read_text())["parent_id"] == "a1"


def test_a_folder_with_runs_is_no_place_for_a_sweep(tmp_path):
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "job.json").write_text("{}")
    with pytest.raises(ConfigError, match="another run in this folder"), claimed(tmp_path, parent_id=None):
        raise AssertionError


def test_what_fails_at_the_start_leaves_the_folder_as_it_was(tmp_path):
    with pytest.raises(RuntimeError), claimed(tmp_path / "new", parent_id=None):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_a_killed_process_took_and_did_not_use_is_free(tmp_path):
    dead = this_process().rpartition(":")[0] + ":1"
    for left in (json.dumps({"process": dead}), ""):
        (tmp_path / "sweep.json").write_text(left)
        with claimed(tmp_path, parent_id=None):
            assert json.loads((tmp_path / "sweep.json").read_text()) == {"process": this_process()}


def test_a_folder_without_room_is_told(tmp_path, monkeypatch):
    refused(
        tmp_path / "new", r"cannot be used .*No space left on device.*make room", OSError(28, "No space left on device")
    )

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sweep_folder.json, "dump", full)
    refused(tmp_path / "new", "make room", AssertionError("it was taken"))
    assert not (tmp_path / "new").exists()
