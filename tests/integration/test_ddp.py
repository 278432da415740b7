import signal
import time

import pandas as pd
import pytest
import torch
from real_runs import (
    TINY,
    Started,
    artifacts,
    best_weights,
    client,
    first_epoch_saved,
    last_weights,
    only_run,
    processes_in,
    run_folders,
    same,
    train,
)
from sklearn.metrics import accuracy_score

TWO = (*TINY, "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "epochs=3", "freeze=1")


@pytest.fixture(scope="module")
def distributed(tmp_path_factory):
    """The folder in which a run of two processes went through."""
    folder = tmp_path_factory.mktemp("distributed")
    result = train(folder, *TWO)
    assert result.returncode == 0, result.stdout + result.stderr
    (folder / "outputs" / "stdout").write_text(result.stdout)
    return folder


def test_two_processes_make_one_run_in_one_folder(distributed):
    run = only_run(distributed)
    assert run.info.status == "FINISHED"
    assert (run.data.params["trainer.name"], run.data.params["trainer.devices"]) == ("ddp", "2")
    assert [str(distributed / "outputs" / name) for name in run_folders(distributed)] == [run.data.tags["output_dir"]]
    for name in ("train/loss", "val/acc", "lr/head"):
        history = client(distributed).get_metric_history(run.info.run_id, name)
        assert [each.step for each in history] == [0, 1, 2]
    said = (distributed / "outputs" / "stdout").read_text()
    assert said.count("epoch 1/3") == 1


def test_there_were_really_two_processes(distributed):
    path = next((distributed / "outputs").glob("*/checkpoints/*/last.ckpt"))
    steps = torch.load(path, weights_only=True)["global_step"]
    assert steps == 3 * 5  # 1,259 images by two processes in batches of 128


def test_each_image_of_an_odd_test_split_is_tested_once(distributed):
    run = only_run(distributed)
    table = pd.read_parquet(artifacts(run) / "predictions" / "test.parquet")
    assert len(table) == table["id"].nunique() == 269
    assert run.data.metrics["test/acc"] == pytest.approx(accuracy_score(table["label"], table["predicted"]), abs=1e-6)


def test_two_processes_that_were_killed_go_on_to_the_same_weights(distributed, tmp_path):
    started = Started(tmp_path, *TWO)
    assert started.when(first_epoch_saved(tmp_path)).end_by(signal.SIGINT) == 130
    stopped = only_run(tmp_path)
    assert stopped.info.status == "KILLED"
    assert processes_in(tmp_path) == []
    result = train(tmp_path, *TWO, "resume=true")
    assert result.returncode == 0, result.stdout + result.stderr
    run, whole = only_run(tmp_path), only_run(distributed)
    assert (run.info.run_id, run.info.status) == (stopped.info.run_id, "FINISHED")
    assert same(best_weights(run), best_weights(whole))
    assert same(last_weights(run), last_weights(whole))


@pytest.mark.slow
@pytest.mark.parametrize("sweep", [(), ("-m", "seed=0,1")], ids=["run", "sweep"])
def test_nothing_of_two_processes_and_their_workers_outlives_a_command_that_is_killed(tmp_path, sweep):
    started = Started(tmp_path, *TWO, "trainer.workers=1", "epochs=1000", *sweep)
    started.when(first_epoch_saved(tmp_path))
    assert sum("forkserver" in each for each in processes_in(tmp_path)) >= 2 * (1 + 1)  # the servers, and their workers
    assert started.end_by(signal.SIGKILL) == -signal.SIGKILL
    deadline = time.monotonic() + 240
    while (left := processes_in(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


@pytest.mark.slow
def test_a_mistake_found_by_two_processes_is_said_once(tmp_path):
    result = train(tmp_path, *TWO, "freeze=9")
    assert result.returncode == 2
    assert result.stderr.count("error: freeze=9: this backbone has 4 stages") == 1
    assert not (tmp_path / "mlruns" / "mlflow.db").exists()
