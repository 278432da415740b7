"""A run that was interrupted anywhere in its phases ends as an uninterrupted one does, bit for bit."""

from pathlib import Path

import pytest

# isort: split
import pytorch_lightning as pl
import torch
from tiny_runs import configured, fitted, make_weights, moved, state_of

from thawlab.config.schema import Config
from thawlab.strategies.contract import STRATEGIES
from thawlab.training.fit import Fitted
from thawlab.training.preparation import Prepared, prepare
from thawlab.training.trainer import CheckpointMetadata

SETTINGS = {
    "surgical": ["strategy.stage=2"],
    "transplant": ["transfer=2", "strategy.source=target", "strategy.copied=tuned"],
    "delta": ["strategy.attention_images=2"],
    "gradual": ["freeze=2", "strategy.epochs_per_phase=2"],
}


class StoppedError(Exception):
    """What ends a training in these tests."""


def stop_in(monkeypatch: pytest.MonkeyPatch, phase: int, epoch: int) -> None:
    """End the training at the second batch of an epoch; phases and their epochs are counted from 0."""

    def at_batch(self: CheckpointMetadata, trainer: pl.Trainer, module: object, batch: object, index: int) -> None:
        if (self.facts.number - 1, trainer.current_epoch, index) == (phase, epoch, 1):
            raise StoppedError

    monkeypatch.setattr(CheckpointMetadata, "on_train_batch_start", at_batch, raising=False)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    names = {"test_resnet": {}, "test_vit": {"img_size": 32}}
    return {name: make_weights(folder / f"{name}.safetensors", name, **options) for name, options in names.items()}


def settings(images: Path, weights: dict[str, Path], strategy: str, *more: str) -> Config:
    backbone = "test_vit" if strategy == "adapter" else "test_resnet"
    return configured(
        images,
        f"backbone={backbone}",
        f"backbone.checkpoint_path={weights[backbone]}",
        f"strategy={strategy}",
        *SETTINGS.get(strategy, []),
        "epochs=5" if strategy == "gradual" else "epochs=3",
        *more,
    )


def assert_same(one: tuple[Prepared, Fitted], other: tuple[Prepared, Fitted]) -> None:
    assert moved(state_of(one[0]), state_of(other[0])) == set()
    for name in ("accuracy", "epoch"):
        assert getattr(one[1].best, name) == getattr(other[1].best, name)
    kept = [torch.load(each.best.checkpoint, weights_only=True)["state_dict"] for _, each in (one, other)]
    assert moved(*kept) == set()
    assert one[1].audited == other[1].audited
    assert one[1].cost["cost/trainable_params"] == other[1].cost["cost/trainable_params"]


@pytest.mark.parametrize("strategy", STRATEGIES.names())
def test_resuming_in_any_phase_ends_as_if_nothing_had_happened(strategy, images, weights, tmp_path, monkeypatch):
    config = settings(images, weights, strategy)
    whole = fitted(config, tmp_path / "whole")
    phases = whole[0].phases
    inside = [(number, phase.epochs - 1) for number, phase in enumerate(phases)]  # in the last epoch of each
    between = [(number, 0) for number in range(1, len(phases))]  # the phase before is done, this one has no checkpoint
    for phase, epoch in sorted({*inside, *between} - {(0, 0)}):
        folder = tmp_path / f"stopped_{phase}_{epoch}"
        with monkeypatch.context() as patch:
            stop_in(patch, phase, epoch)
            with pytest.raises(StoppedError):
                fitted(config, folder)
        assert_same(whole, fitted(config, folder, resume=True))


def test_a_run_stopped_twice_and_with_averaged_weights_resumes(images, weights, tmp_path, monkeypatch):
    config = settings(images, weights, "freeze_unfreeze", "trainer.ema=0.8", "strategy.freeze_epochs=2", "epochs=4")
    whole = fitted(config, tmp_path / "whole")
    for phase, epoch, resume in ((0, 1, False), (1, 1, True)):
        with monkeypatch.context() as patch:
            stop_in(patch, phase, epoch)
            with pytest.raises(StoppedError):
                fitted(config, tmp_path / "stopped", resume)
    assert_same(whole, fitted(config, tmp_path / "stopped", resume=True))


def test_a_phase_that_stopped_early_is_not_trained_on_when_the_run_resumes(images, weights, tmp_path, monkeypatch):
    never = ["optimizer.lr=1e-12", "optimizer.weight_decay=0", "trainer.patience=1"]
    config = settings(images, weights, "freeze_unfreeze", *never, "strategy.freeze_epochs=4", "epochs=8")
    whole = fitted(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_in(patch, 1, 0)
        with pytest.raises(StoppedError):
            fitted(config, tmp_path / "stopped")
    assert_same(whole, fitted(config, tmp_path / "stopped", resume=True))
    last = torch.load(tmp_path / "stopped" / "checkpoints" / "1_unfreeze" / "last.ckpt", weights_only=True)
    assert last["thawlab"]["first_epoch"] == 2  # of the four that were planned: the axis has no gap


def test_a_run_whose_end_was_not_written_down_resumes(images, weights, tmp_path):
    config = settings(images, weights, "lp_ft")
    whole = fitted(config, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "1_finetune" / "done.json").unlink()
    assert_same(whole, fitted(config, tmp_path / "run", resume=True))


def test_every_checkpoint_says_of_which_phase_and_epoch_it_is_in_plain_data(images, weights, tmp_path):
    fitted(settings(images, weights, "freeze_unfreeze", "epochs=3"), tmp_path)
    found = {}
    for path in tmp_path.rglob("*.ckpt"):
        content = torch.load(path, weights_only=True)
        found[f"{path.parent.name}/{path.stem}"] = content["thawlab"]
    assert {name.partition("/")[0] for name in found} == {"0_freeze", "1_unfreeze"}
    stages = ["stem", "layer1", "layer2", "layer3", "layer4"]
    assert found["0_freeze/last"] == {
        "run_id": "", "phase": "freeze", "number": 1, "first_epoch": 0, "epoch": 0, "groups": ["head"]
    }  # fmt: skip
    assert found["1_unfreeze/last"] == {
        "run_id": "", "phase": "unfreeze", "number": 2, "first_epoch": 1, "epoch": 2, "groups": [*stages, "head"]
    }  # fmt: skip


def test_a_checkpoint_of_another_phase_is_not_gone_on_with(images, weights, tmp_path):
    config = settings(images, weights, "freeze_unfreeze", "strategy.freeze_epochs=2", "epochs=4")
    fitted(config, tmp_path)
    folder = tmp_path / "checkpoints"
    for record in folder.glob("*/done.json"):
        record.unlink()
    (folder / "1_unfreeze" / "last.ckpt").replace(folder / "0_freeze" / "last.ckpt")
    with pytest.raises(RuntimeError, match=r"the checkpoint's phase is 'unfreeze', yet this phase's is 'freeze'"):
        fitted(config, tmp_path, resume=True)


def test_no_phase_repeats_the_order_of_images_of_another(images, weights, tmp_path, monkeypatch):
    orders: dict[tuple[int, int], list[int]] = {}

    def note(self: CheckpointMetadata, trainer: pl.Trainer, module: object, batch: tuple, index: int) -> None:
        orders.setdefault((self.facts.number, trainer.current_epoch), []).extend(batch[2].tolist())

    monkeypatch.setattr(CheckpointMetadata, "on_train_batch_start", note, raising=False)
    fitted(settings(images, weights, "freeze_unfreeze", "strategy.freeze_epochs=2", "epochs=4"), tmp_path)
    assert len({tuple(order) for order in orders.values()}) == len(orders) == 4
    assert all(sorted(order) == list(range(18)) for order in orders.values())


def test_a_strategy_cannot_be_prepared_with_too_few_epochs(images, weights):
    with pytest.raises(ValueError, match=r"^epochs=1: strategy=freeze_unfreeze begins with 1 "):
        prepare(settings(images, weights, "freeze_unfreeze", "epochs=1"))
