"""What a run of several phases leaves in MLflow, and a later run that starts from it."""

import json
from pathlib import Path

import pytest

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import timm
import torch
from mlflow.tracking import MlflowClient
from real_runs import TINY, artifacts, runs, train
from tiny_runs import make_images

RESNET = ["stem", "layer1", "layer2", "layer3", "layer4", "head"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one run of freeze_unfreeze and one of LoRA have taken place."""
    folder = tmp_path_factory.mktemp("phases")
    for settings in (("strategy=freeze_unfreeze", "epochs=3"), ("strategy=lora", "epochs=1", "freeze=1")):
        done = train(folder, *TINY, *settings)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def run_of(folder: Path, strategy: str):
    return next(run for run in runs(folder) if run.data.params["strategy.name"] == strategy)


def test_all_phases_lie_on_one_axis_of_epochs_with_their_number(folder):
    run = run_of(folder, "freeze_unfreeze")
    client = MlflowClient(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    history = {
        name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
        for name in ("phase", "val/acc", "lr/head", "lr/layer4")
    }
    assert history["phase"] == [(0, 1.0), (1, 2.0), (2, 2.0)]
    assert [step for step, _ in history["val/acc"]] == [step for step, _ in history["lr/head"]] == [0, 1, 2]
    assert [step for step, _ in history["lr/layer4"]] == [1, 2]  # frozen in the first phase
    assert run.data.metrics["best/epoch"] in (0, 1, 2)


def test_stages_json_has_every_phase_with_what_is_trained_at_which_rate(folder):
    plan = json.loads((artifacts(run_of(folder, "freeze_unfreeze")) / "stages.json").read_text())
    assert [(phase["phase"], phase["epochs"]) for phase in plan] == [("freeze", 1), ("unfreeze", 2)]
    assert [[stage["name"] for stage in phase["stages"]] for phase in plan] == [RESNET, RESNET]
    assert [stage["name"] for stage in plan[0]["stages"] if not stage["frozen"]] == ["head"]
    rates = [stage["lr"] for stage in plan[1]["stages"]]
    # fastai's: half of the rate for the head, a hundredth of that for the stem, a geometric series between.
    assert rates == pytest.approx([0.001 * 100 ** (k / 5 - 1) for k in range(6)])


def test_the_weights_that_a_run_with_lora_keeps_are_those_of_a_plain_model(folder):
    kept = torch.load(artifacts(run_of(folder, "lora")) / "checkpoints" / "best.ckpt", weights_only=True)
    assert kept["extension"] is None
    model = timm.create_model(kept["architecture"], **kept["options"])
    model.load_state_dict(kept["state_dict"])


def test_a_network_trained_on_one_data_set_is_the_source_for_another(folder):
    source = run_of(folder, "lora")
    images = make_images(folder / "images")
    done = train(
        folder,
        *(setting for setting in TINY if not setting.startswith(("backbone.pretrained", "batch_size"))),
        f"backbone.checkpoint_path=run:{source.info.run_id}",
        "dataset=folder",
        f"dataset.root={images}",
        "strategy=lwf",  # needs the classifier of the ten digits
        "freeze=2",
        "epochs=1",
        "batch_size=8",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = run_of(folder, "lwf")
    assert run.data.params["weights"] == f"run:{source.info.run_id}"
    before, after = (
        torch.load(artifacts(each) / "checkpoints" / "best.ckpt", weights_only=True) for each in (source, run)
    )
    assert (len(before["classes"]), len(after["classes"])) == (10, 3)
    frozen = [name for name in before["state_dict"] if name.startswith(("conv1", "bn1", "layer1", "layer2"))]
    assert frozen
    assert all(torch.equal(before["state_dict"][name], after["state_dict"][name]) for name in frozen)
    assert before["state_dict"].keys() == after["state_dict"].keys()  # the source's classifier is left out again


def test_a_run_that_does_not_exist_is_named_with_those_that_do(folder):
    done = train(folder, *TINY, "backbone.checkpoint_path=run:nonsense")
    assert done.returncode == 2
    assert "error: backbone.checkpoint_path=run:nonsense: there is no such run" in done.stderr
    assert run_of(folder, "lora").info.run_id in done.stderr
