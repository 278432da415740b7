from thawlab.tracking.runs import start_run
from thawlab.tracking.sweeps import close_lost, start_parent


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
        "here": job("here"),
        "gone": job("gone", process=f"{host}:1:0"),
        "elsewhere": job("elsewhere", process="another-host:1:1"),
        "finished": job("finished", process=f"{host}:1:0"),
        "stranger": start_run(store, "digits", name="stranger", params={}, tags={"process": f"{host}:1:0"}),
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
