import json

from thawlab.tracking.dead_runs import close_lost
from thawlab.tracking.run import start_run
from thawlab.tracking.sweeps import end_parent, set_note, start_parent, sweep_note


def test_jobs_stand_below_their_parent(store):
    parent = start_parent(store, "digits", "freeze=0,2", {"sweep_id": "s1"}, "two depths", {"freeze": "0,2"})
    jobs = [
        start_run(store, "digits", name=f"freeze={k}", params={}, tags={"sweep_id": "s1"}, parent_id=parent.id)
        for k in (0, 2)
    ]
    children = parent.client.search_runs([parent.experiment_id], f"tags.mlflow.parentRunId = '{parent.id}'")
    assert {child.info.run_id for child in children} == {job.id for job in jobs}
    found = parent.client.get_run(parent.id)
    assert (found.data.params, found.data.tags["sweep_id"]) == ({"freeze": "0,2"}, "s1")
    assert found.data.tags["mlflow.note.content"] == "two depths"


def test_only_jobs_whose_process_is_gone_are_closed(store):
    parent = start_parent(store, "digits", "sweep", {}, "")

    def job(name, **tags):
        return start_run(store, "digits", name=name, params={}, tags=tags, parent_id=parent.id)

    host = parent.client.get_run(parent.id).data.tags["process"].rsplit(":", 2)[0]
    runs = {
        "stranger": start_run(store, "digits", name="stranger", params={}, tags={"process": f"{host}:1:0"}),
        "here": job("here"),
        "gone": job("gone", process=f"{host}:1:0"),
        "elsewhere": job("elsewhere", process="another-host:1:1"),
        "finished": job("finished", process=f"{host}:1:0"),
    }
    runs["finished"].end("FINISHED")
    assert set(close_lost(store, parent.id)) == {runs["here"].id, runs["gone"].id}
    found = {name: parent.client.get_run(run.id) for name, run in runs.items()}
    assert {name: run.info.status for name, run in found.items()} == {
        "here": "KILLED",
        "gone": "KILLED",
        "elsewhere": "RUNNING",
        "finished": "FINISHED",
        "stranger": "RUNNING",
    }
    assert found["gone"].data.tags["error"].startswith("lost: its process ended without closing the run")
    assert "error" not in found["finished"].data.tags
    assert parent.client.get_run(parent.id).info.status == "RUNNING"
    assert close_lost(store, parent.id) == []


def test_a_sweep_ends_with_its_jobs_as_a_table_and_the_best_of_those_that_finished(store, tmp_path):
    parent = start_parent(store, "digits", "sweep", {}, "")
    common = {"seconds": 1.5, "run_id": "a1"}
    rows = [
        {
            "number": 0,
            "label": "freeze=0",
            "status": "FINISHED",
            "metrics": {"test/acc": 0.8, "val/acc": 1.0},
            **common,
        },
        {"number": 1, "label": "freeze=2", "status": "FINISHED", "metrics": {"test/acc": 0.9}, **common},
        {"number": 2, "label": "freeze=4", "status": "FAILED", "metrics": {"test/acc": 0.95}, **common},
    ]
    end_parent(store, parent.id, "FAILED", rows)
    found = parent.client.get_run(parent.id)
    assert found.info.status == "FAILED"
    assert found.data.metrics == {"sweep/jobs": 3.0, "sweep/finished": 2.0, "sweep/max_test_acc": 0.9}
    folder = store.database.parent / "artifacts" / parent.id / "artifacts"
    table = json.loads((folder / "sweep/jobs.json").read_text())
    assert [(row["label"], row["status"], row["test/acc"], row["best/val_acc"]) for row in table] == [
        ("freeze=0", "FINISHED", 0.8, None),
        ("freeze=2", "FINISHED", 0.9, None),
        ("freeze=4", "FAILED", 0.95, None),
    ]
    assert found.data.tags["mlflow.note.content"].splitlines()[-3:] == [
        "| freeze=0 | – | 0.8000 | FINISHED |",
        "| freeze=2 | – | 0.9000 | FINISHED |",
        "| freeze=4 | – | 0.9500 | FAILED |",
    ]


def test_a_sweeps_note_says_what_varies_and_afterwards_what_came_out(store):
    note = sweep_note("python train.py -m freeze=0,2", 2, {"freeze": ["0", "2"]})
    parent = start_parent(store, "digits", "sweep", {}, note)

    def kept():
        return parent.client.get_run(parent.id).data.tags["mlflow.note.content"]

    begins = "`python train.py -m freeze=0,2`\n\n2 runs, which differ in **freeze** 0, 2"
    assert kept() == begins
    set_note(store, parent.id, "first")
    set_note(store, parent.id, "| a |\n|---|\n| 1 |")
    assert kept() == f"{begins}\n\n**Result**\n\n| a |\n|---|\n| 1 |"
    set_note(store, parent.id, "\n".join(f"| {n} |" for n in range(5000)))
    assert len(kept()) <= 8000
    assert kept().endswith("|\n\n… cut here: a note holds no more")
