"""A run whose checkpoints were torn, or whose process was killed before a phase was written down, ends as any other."""

import shutil
from pathlib import Path

import pytest
import torch
from tiny_runs import configured, fitted, make_weights, moved, state_of

STRATEGY = ("strategy=freeze_unfreeze", "strategy.freeze_epochs=3", "epochs=5", "trainer.ema=0.8")
FIRST, SECOND = "0_freeze", "1_unfreeze"


@pytest.fixture(scope="module")
def config(images, tmp_path_factory):
    weights = make_weights(tmp_path_factory.mktemp("weights") / "weights.safetensors", "test_resnet")
    return configured(images, "backbone=test_resnet", f"backbone.checkpoint_path={weights}", *STRATEGY)


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, *fitted(config, folder)


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def unrecorded(folder):
    """Killed after the last checkpoint of the first phase, and before that the phase was over was written down."""
    (folder / FIRST / "done.json").unlink()
    shutil.rmtree(folder / SECOND)


def torn_in_the_second_phase(folder):
    (folder / SECOND / "done.json").unlink()
    tear(folder / SECOND / "last.ckpt")


def torn_in_a_phase_that_was_over(folder):
    tear(folder / FIRST / "last.ckpt")
    tear(folder / FIRST / "best.ckpt")


@pytest.mark.parametrize("damage", [unrecorded, torn_in_the_second_phase, torn_in_a_phase_that_was_over])
def test_a_damaged_run_ends_as_an_undamaged_one(config, whole, tmp_path, damage):
    kept, prepared, expected = whole
    shutil.copytree(kept, tmp_path / "run")
    damage(tmp_path / "run" / "checkpoints")
    again, result = fitted(config, tmp_path / "run", resume=True)
    assert moved(state_of(prepared), state_of(again)) == set()
    assert (result.best.accuracy, result.best.epoch) == (expected.best.accuracy, expected.best.epoch)
    states = [torch.load(each.best.checkpoint, weights_only=True)["state_dict"] for each in (result, expected)]
    assert moved(*states) == set()


def test_a_phase_that_had_stopped_early_is_over_when_its_run_resumes(images, config, tmp_path):
    never = ["optimizer.lr=1e-12", "optimizer.weight_decay=0", "trainer.patience=1"]
    weights = config.backbone.checkpoint_path
    early = configured(images, "backbone=test_resnet", f"backbone.checkpoint_path={weights}", *STRATEGY, *never)
    folder = tmp_path / "checkpoints" / FIRST
    fitted(early, tmp_path)
    record = (folder / "done.json").read_bytes()
    (folder / "done.json").unlink()
    fitted(early, tmp_path, resume=True)
    assert (folder / "done.json").read_bytes() == record
