from thawlab.tracking.dead_runs import close_dead
from thawlab.tracking.run import start_run
from thawlab.tracking.select_runs import select_runs
from thawlab.tracking.sweeps import start_parent


def test_what_a_killed_process_left_running_is_closed_by_whoever_comes_next(store):
    parent = start_parent(store, "digits", "sweep", {"sweep_id": "s1", "sweep_dir": "outputs/s1", "sweep_jobs": 3}, "")
    host = parent.client.get_run(parent.id).data.tags["process"].rsplit(":", 2)[0]

    def job(name, **tags):
        tags = {"config_hash": "c1", "sweep_id": "s1", **tags}
        return start_run(store, "digits", name=name, params={}, tags=tags, parent_id=parent.id)

    here, gone, elsewhere = job("here"), job("gone", process=f"{host}:1:0"), job("elsewhere", process="other:1:1")
    parent.set_tags({"process": f"{host}:1:0"})
    assert "was stopped before its end; 0 of" not in select_runs(store).unfinished

    def statuses():
        return [parent.client.get_run(each.id).info.status for each in (parent, here, gone, elsewhere)]

    assert statuses() == ["KILLED", "RUNNING", "KILLED", "RUNNING"]
    assert select_runs(store).unfinished == "the sweep was stopped before its end"
    assert close_dead(store) == []
    here.set_tags({"process": f"{host}:1:0"})
    start_run(store, "other", name="next", params={}, tags={}).end("FINISHED")  # a run of its own looks, too
    assert statuses() == ["KILLED", "KILLED", "KILLED", "RUNNING"]


def test_a_run_that_is_gone_on_with_is_never_taken_for_lost(store, monkeypatch):
    run = start_run(store, "digits", name="first", params={}, tags={"process": "other:1:1"})
    host = start_run(store, "digits", name="x", params={}, tags={}).client.get_run(run.id).data.tags["process"]
    assert host == "other:1:1"
    run.set_tags({"process": "gone"})
    run.end("KILLED")
    seen = []
    update = type(run.client).update_run

    def noticed(client, run_id, **given):
        seen.append(client.get_run(run_id).data.tags["process"])
        update(client, run_id, **given)

    monkeypatch.setattr(type(run.client), "update_run", noticed)
    start_run(store, "digits", name="first", params={}, tags={}, resume_id=run.id)
    assert seen != ["gone"]  # it names its process before it is RUNNING
