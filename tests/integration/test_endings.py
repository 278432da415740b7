import signal

import pytest
import torch
import yaml
from real_runs import (
    Started,
    artifacts,
    best_weights,
    client,
    first_epoch_saved,
    last_weights,
    only_run,
    processes_in,
    run_folders,
    runs,
    same,
    train,
)

from thawlab.cli import main

# Fails in the second epoch of any training.
FAILING = """
import sys
from thawlab.cli import main
from thawlab.training import classifier

def fail(self):
    if self.current_epoch == 1:
        raise RuntimeError("the disk is full")
    begin(self)

begin, classifier.Classifier.on_train_epoch_start = classifier.Classifier.on_train_epoch_start, fail
sys.exit(main.train(sys.argv[1:]))
"""


def test_ctrl_c_ends_a_run_as_killed_and_what_was_logged_stays(tmp_path, finished):
    started = Started(tmp_path, *finished.arguments, "epochs=50", "trainer.workers=1")
    assert started.when(first_epoch_saved(tmp_path)).end_by_ctrl_c() == 130
    run = only_run(tmp_path)
    assert run.info.status == "KILLED"
    assert run.info.end_time is not None
    assert run.data.metrics["train/acc"] > 0
    assert (artifacts(run) / "stages.json").is_file()
    assert "stopped; go on with: resume=true" in started.output()
    assert "Traceback" not in started.output()
    assert processes_in(tmp_path) == []


def test_a_run_that_was_terminated_goes_on_by_its_id_alone_to_the_same_weights(tmp_path, finished):
    started = Started(tmp_path, *finished.arguments)
    assert started.when(first_epoch_saved(tmp_path)).end_by(signal.SIGTERM) == 143
    stopped = only_run(tmp_path)
    assert stopped.info.status == "KILLED"
    result = train(tmp_path, f"resume={stopped.info.run_id}")
    assert result.returncode == 0, result.stdout + result.stderr
    assert_went_on(stopped, tmp_path, finished)


def test_a_run_that_was_killed_without_a_word_goes_on_to_the_same_weights(tmp_path, finished):
    started = Started(tmp_path, *finished.arguments)
    assert started.when(first_epoch_saved(tmp_path)).end_by(signal.SIGKILL) == -signal.SIGKILL
    stopped = only_run(tmp_path)
    assert stopped.info.status == "RUNNING"  # nobody was left to say otherwise
    result = train(tmp_path, *finished.arguments, "resume=true")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "epoch 1/3" not in result.stdout
    assert_went_on(stopped, tmp_path, finished)


def assert_went_on(stopped, folder, finished):
    run, whole = only_run(folder), only_run(finished.folder)
    assert (run.info.run_id, run.info.status) == (stopped.info.run_id, "FINISHED")
    assert run.data.tags["resumed"] == "1"
    assert run.data.tags["output_dir"] == stopped.data.tags["output_dir"]
    assert run_folders(folder) == [run.data.tags["output_dir"].rpartition("/")[2]]
    assert same(best_weights(run), best_weights(whole))
    assert same(last_weights(run), last_weights(whole))
    exact = [name for name in whole.data.metrics if not name.startswith(("cost/", "cache/"))]
    assert {name: run.data.metrics[name] for name in exact} == {name: whole.data.metrics[name] for name in exact}
    assert run.data.params == whole.data.params
    assert "config_drift" not in run.data.tags
    steps = {each.step for each in client(folder).get_metric_history(run.info.run_id, "train/loss")}
    assert steps == {0, 1, 2}


def test_an_exception_ends_a_run_as_failed_with_its_traceback_and_it_can_go_on(tmp_path, finished):
    result = train(tmp_path, *finished.arguments, program=("-c", FAILING))
    assert result.returncode == 1
    assert "RuntimeError: the disk is full" in result.stderr
    failed = only_run(tmp_path)
    assert failed.info.status == "FAILED"
    assert failed.data.tags["error"] == "RuntimeError: the disk is full"
    text = (artifacts(failed) / "error" / "traceback.txt").read_text()
    assert text.startswith("Traceback (most recent call last)")
    assert text.strip().endswith("RuntimeError: the disk is full")
    assert [each.step for each in client(tmp_path).get_metric_history(failed.info.run_id, "val/acc")] == [0]
    result = train(tmp_path, *finished.arguments, "resume=true")
    assert result.returncode == 0, result.stdout + result.stderr
    assert_went_on(failed, tmp_path, finished)


@pytest.fixture
def refused(finished, monkeypatch, capsys):
    """What is said to a command that is given in the folder of the finished run and cannot be run."""
    monkeypatch.chdir(finished.folder)

    def command(*arguments: str) -> str:
        before = [(run.info.run_id, run.info.status) for run in runs(finished.folder)]
        assert main.train(arguments) == 2
        assert [(run.info.run_id, run.info.status) for run in runs(finished.folder)] == before
        return capsys.readouterr().err.strip()

    return command


def test_a_finished_run_does_not_go_on(finished, refused):
    run_id = only_run(finished.folder).info.run_id
    over = f"error: resume={run_id}: this run is finished; start a new one without resume"
    assert refused(f"resume={run_id}") == over
    assert refused(*finished.arguments, "resume=true").startswith(
        "error: resume=true: experiment 'digits' has no interrupted run with these settings; "
    )


def test_a_run_that_is_not_there_does_not_go_on(finished, refused):
    said = refused("resume=0123456789abcdef0123456789abcdef")
    assert said.startswith("error: resume=0123456789abcdef0123456789abcdef: there is no such run in sqlite:///")
    assert only_run(finished.folder).info.run_id in said


@pytest.fixture
def interrupted(finished):
    """The finished run as if it had been stopped."""
    run_id, store = only_run(finished.folder).info.run_id, client(finished.folder)
    store.set_terminated(run_id, "KILLED")
    yield run_id
    store.set_terminated(run_id, "FINISHED")


def test_a_run_does_not_go_on_with_other_settings(interrupted, refused):
    said = refused(f"resume={interrupted}", "freeze=2", "seed=4")
    assert said.startswith(f"error: resume={interrupted}: a run goes on with the settings it began with, yet ")
    assert "freeze=2 (it has 1)" in said
    assert "seed=4 (it has 0)" in said
    assert said.endswith("leave these out, or start a new run without resume")


def test_a_run_whose_files_are_gone_does_not_go_on(interrupted, finished, refused):
    store = client(finished.folder)
    folder = store.get_run(interrupted).data.tags["output_dir"]
    store.set_tag(interrupted, "output_dir", "/nowhere")
    try:
        said = refused(f"resume={interrupted}")
    finally:
        store.set_tag(interrupted, "output_dir", folder)
    assert said == (
        f"error: resume={interrupted}: its checkpoints were in /nowhere, which is not there; if they were moved, name "
        "their place by hydra.run.dir=FOLDER, else start a new run"
    )


def test_a_depth_that_the_backbone_lacks_is_refused_before_a_run_is_recorded(finished, refused):
    said = refused(*finished.arguments, "freeze=9")
    assert "error: freeze=9: this backbone has 4 stages, so use 0 to 4" in said


def test_a_checkpoint_holds_plain_data_only(finished):
    run = only_run(finished.folder)
    config = yaml.safe_load((artifacts(run) / "config" / "config.yaml").read_text())
    assert config["freeze"] == 1
    for path in (finished.folder / "outputs").rglob("*.ckpt"):
        torch.load(path, weights_only=True)
