import pytest

from thawlab.tracking.history import epoch_history, find_interrupted, read_run
from thawlab.tracking.past_sweeps import past_sweeps
from thawlab.tracking.run import start_run
from thawlab.tracking.select_runs import select_runs


def start(store, config_hash="abc", **tags):
    tags = {"config_hash": config_hash, "output_dir": "outputs/1", **tags}
    return start_run(store, "digits", name=config_hash, params={"freeze": 4}, tags=tags)


def test_the_latest_stopped_run_with_the_same_configuration_is_the_one_to_resume(store):
    assert find_interrupted(store, "digits", "abc") is None  # not even an experiment
    older, latest, other, finished = start(store), start(store), start(store, "other"), start(store)
    older.end("FAILED")
    latest.end("KILLED")
    other.end("KILLED")
    finished.end("FINISHED")
    without_folder = start_run(store, "digits", name="x", params={}, tags={"config_hash": "abc"})
    without_folder.end("KILLED")
    assert find_interrupted(store, "digits", "abc") == latest.id
    assert find_interrupted(store, "digits", "other") == other.id
    assert find_interrupted(store, "digits", "unknown") is None
    assert find_interrupted(store, "cats", "abc") is None


def test_an_experiment_whose_name_was_recorded_without_its_password_is_found_by_the_name_that_was_typed(store):
    name = "images of http://ann:S3CRET@host"
    sweep = start_run(store, name, name="sweep", params={}, tags={"sweep_dir": "outputs/s"})
    run = start_run(store, name, name="x", params={}, tags={"config_hash": "abc", "output_dir": "outputs/1"})
    run.end("KILLED")
    assert find_interrupted(store, name, "abc") == run.id
    assert [each.run_id for each in past_sweeps(store, name)] == [sweep.id]
    assert [each.run_id for each in select_runs(store, experiment=name).records] == [run.id]


def test_a_run_that_is_still_at_work_is_not_resumed_but_one_whose_process_is_gone_is(store):
    at_work, elsewhere = start(store), start(store, process="another-host:1:1")
    assert find_interrupted(store, "digits", "abc") is None
    host, pid, _ = at_work.client.get_run(at_work.id).data.tags["process"].rsplit(":", 2)
    at_work.set_tags({"process": f"{host}:{pid}:1"})  # an earlier process of this number
    assert find_interrupted(store, "digits", "abc") == at_work.id
    assert elsewhere.id != at_work.id


def test_a_past_run_is_read_with_its_configuration(store):
    run = start(store)
    assert read_run(store, run.id).config is None
    run.log_text("freeze: 4\n", "config/config.yaml")
    run.log_metrics({"test/acc": 0.75})
    run.end("KILLED")
    past = read_run(store, run.id)
    assert (past.run_id, past.experiment_id, past.name, past.status) == (run.id, run.experiment_id, "abc", "KILLED")
    assert (past.params, past.metrics, past.config) == ({"freeze": "4"}, {"test/acc": 0.75}, "freeze: 4\n")
    assert past.tags["output_dir"] == "outputs/1"


def test_an_unknown_run_is_told_under_the_setting_that_named_it(store):
    with pytest.raises(ValueError, match=r"sweep=abc: there is no such run in .*; the store has no runs"):
        read_run(store, "abc", key="sweep")


def test_an_epoch_that_was_run_again_after_a_resume_counts_as_it_was_last(store):
    run = start(store)
    run.log_metrics({"train/loss": 3.0, "val/acc": 0.1, "lr/head": 0.01}, step=0)
    run.log_metrics({"train/loss": 2.0}, step=1)
    run.log_metrics({"best/val_acc": 0.1})
    run.log_metrics({"train/loss": 1.5, "val/acc": 0.3}, step=1)
    assert epoch_history(store, run.id) == [
        {"epoch": 0, "train/loss": 3.0, "val/acc": 0.1, "lr/head": 0.01},
        {"epoch": 1, "train/loss": 1.5, "val/acc": 0.3},
    ]
