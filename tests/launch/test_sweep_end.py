"""What a sweep says of its jobs at its end, and to the program that started it."""

import json
from pathlib import Path

import pytest

from compare.synthetic import Made, add, fresh_store
from thawlab.launch import ending, owners, sweep_end
from thawlab.tracking.taken_over import naming

BEFORE = {"metrics": {"test/acc": 0.5}, "seconds": 7.0}


def ended(folder: Path, number: int, status: str) -> Path:
    folder.mkdir(parents=True)
    outcome = {"number": number, "status": status, "label": f"seed={number}", "seconds": 1.0}
    (folder / "outcome.json").write_text(json.dumps(outcome))
    (folder / "run_id").write_text(f"r{number}")
    return folder


def test_jobs_that_were_done_or_failed_before_stand_beside_those_of_now(tmp_path):
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    (sweep / "sweep.json").touch()
    ended(sweep / "2", 3, "FINISHED")
    earlier = ended(tmp_path / "earlier" / "0", 4, "FINISHED")
    ended(sweep / "4", 5, "FINISHED")
    plan = {
        "1": {"done": True, "run_id": "f0", **BEFORE},
        "2": {"failed": True, "run_id": "x1", **BEFORE},
        "4": {"again": {"hash": "r4"}, "folder": str(earlier)},
        "5": {"again": {}, "finished": ["done", "failed"], "failed_heads": 1},
    }
    rows = sweep_end.outcomes(sweep, {"plan": plan, "labels": [f"seed={number}" for number in range(5)]})
    assert {number: (row["status"], row["run_id"]) for number, row in rows.items()} == {
        1: ("FINISHED", "f0"),
        2: ("FAILED", "x1"),
        3: ("FINISHED", "r3"),
        4: ("FINISHED", "r4"),
        5: ("FAILED", "r5"),  # one of its heads did
    }
    assert rows[1]["metrics"] == {"test/acc": 0.5}


@pytest.mark.parametrize(
    ("statuses", "told"),
    [
        (["FINISHED"] * 3, ""),
        (["FINISHED", "KILLED", "FINISHED"], "go on with what is missing: the same command with resume=true\n"),
        (["FINISHED"], "go on with what is missing: the same command with resume=true\n"),
        (["FINISHED", "FAILED", "FINISHED"], "try again what failed: the same command with resume=true retry=failed\n"),
    ],
)
def test_it_is_told_how_to_go_on(statuses, told, capsys):
    sweep_end._tell_ways_on([{"status": each} for each in statuses], 3)
    assert capsys.readouterr().err == told


def test_a_program_gets_the_runs_in_the_order_of_the_jobs_those_taken_over_included(tmp_path, monkeypatch):
    store = fresh_store(tmp_path / "mlruns")
    early = Made(tags={"config_hash": "b", "output_dir": "/later/9"})
    parent = Made(bare=True, tags={"sweep_dir": "x", **naming([early.run_id], {})})
    own = [Made(parent=parent.run_id, tags={"config_hash": name, "output_dir": "/now/1"}) for name in "ca"]
    add(store, [early, parent, *own])
    told = tmp_path / "ending.json"
    monkeypatch.setenv(ending.VARIABLE, str(told))
    monkeypatch.setattr(owners, "end_with_owner", lambda: None)
    with ending.told():
        ending.tell(uri=store.uri, root=str(tmp_path), order=["a", "b", "c"], parent_id=parent.run_id)
    found = [run["run_id"] for run in ending.read(told)["runs"]]
    assert found == [own[1].run_id, early.run_id, own[0].run_id]
