"""What goes wrong elsewhere when a frozen network is thawed: statistics, groups, schedules, resumed runs."""

from pathlib import Path

import pytest

import thawlab  # (its import hook lets timm import torchvision)

# isort: split
import pytorch_lightning as pl
import torch
from tiny_runs import configured, fitted, make_weights
from torch import Tensor, nn

from thawlab.backbones.freezing import batch_norms
from thawlab.training.trainer import CheckpointMetadata

assert thawlab


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_weights(tmp_path_factory.mktemp("weights") / "test_resnet.safetensors", "test_resnet")


@pytest.fixture
def arguments(weights: Path) -> list[str]:
    return ["backbone=test_resnet", f"backbone.checkpoint_path={weights}"]


def watch(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, pl.Trainer, nn.Module]]:
    """The phase's number, the Trainer and the network at each training step."""
    steps: list[tuple[int, pl.Trainer, nn.Module]] = []

    def note(self: CheckpointMetadata, trainer: pl.Trainer, module: pl.LightningModule, *_: object) -> None:
        steps.append((self.facts.number, trainer, module.model))  # type: ignore[arg-type]

    monkeypatch.setattr(CheckpointMetadata, "on_train_batch_start", note, raising=False)
    return steps


def test_a_frozen_batch_norm_normalises_in_training_as_it_will_in_testing(images, arguments, tmp_path, monkeypatch):
    differences: list[float] = []
    tracked: list[bool] = []

    def compare(
        self: CheckpointMetadata, trainer: pl.Trainer, module: pl.LightningModule, batch: tuple, index: int
    ) -> None:
        seen: list[tuple[Tensor, Tensor]] = []
        layer = module.model.get_submodule("bn1")
        hook = layer.register_forward_hook(lambda _layer, inputs, output: seen.append((inputs[0], output.clone())))
        with torch.no_grad():
            module.model(batch[0])  # type: ignore[operator]
        hook.remove()
        ((given, output),) = seen
        scale = (layer.running_var + layer.eps).rsqrt() * layer.weight  # type: ignore[operator]
        by_hand = (given - layer.running_mean.view(1, -1, 1, 1)) * scale.view(1, -1, 1, 1)  # type: ignore[operator,union-attr]
        by_hand = by_hand + layer.bias.view(1, -1, 1, 1)  # type: ignore[operator,union-attr]
        differences.append(float((by_hand - output).abs().max()))
        tracked.append(bool(layer.track_running_stats))

    monkeypatch.setattr(CheckpointMetadata, "on_train_batch_start", compare, raising=False)
    fitted(configured(images, *arguments, "freeze=1", "bn=train", "epochs=2"), tmp_path)
    assert len(differences) == 6
    assert max(differences) < 1e-4
    assert all(tracked)


@pytest.mark.parametrize("batch_norm", ["auto", "train", "eval"])
def test_no_batch_norm_of_a_frozen_stage_is_trained_in_any_phase(batch_norm, images, arguments, tmp_path, monkeypatch):
    steps = watch(monkeypatch)
    config = configured(images, *arguments, "strategy=freeze_unfreeze", f"bn={batch_norm}", "epochs=2")
    modes: dict[int, list[bool]] = {}
    original = CheckpointMetadata.on_train_batch_start  # type: ignore[attr-defined]

    def note(self: CheckpointMetadata, trainer: pl.Trainer, module: pl.LightningModule, *rest: object) -> None:
        original(self, trainer, module, *rest)
        modes[self.facts.number] = [layer.training for layer in batch_norms(module.model)]
        if self.facts.number == 1:
            assert not any(
                parameter.requires_grad for layer in batch_norms(module.model) for parameter in layer.parameters()
            )

    monkeypatch.setattr(CheckpointMetadata, "on_train_batch_start", note, raising=False)
    fitted(config, tmp_path)
    assert {number for number, *_ in steps} == {1, 2}
    assert not any(modes[1])
    assert set(modes[2]) == {batch_norm != "eval"}


def test_batch_norms_kept_in_eval_mode_are_audited(images, arguments, tmp_path):
    kept = fitted(configured(images, *arguments, "bn=eval", "epochs=1"), tmp_path / "eval")[1]
    moving = fitted(configured(images, *arguments, "epochs=1"), tmp_path / "train")[1]
    assert moving.audited == 0
    assert kept.audited > 0  # nothing but statistics, since nothing is frozen


@pytest.mark.parametrize("scheduler", ["cosine", "constant", "linear", "onecycle"])
def test_each_phase_begins_its_schedule_with_all_its_groups(scheduler, images, arguments, tmp_path, monkeypatch):
    steps = watch(monkeypatch)
    rates: dict[int, list[dict[str, float]]] = {}
    original = CheckpointMetadata.on_train_batch_start  # type: ignore[attr-defined]

    def note(self: CheckpointMetadata, trainer: pl.Trainer, module: pl.LightningModule, *rest: object) -> None:
        original(self, trainer, module, *rest)
        groups = trainer.optimizers[0].param_groups
        rates.setdefault(self.facts.number, []).append({group["name"]: group["lr"] for group in groups})

    monkeypatch.setattr(CheckpointMetadata, "on_train_batch_start", note, raising=False)
    settings = ["strategy=lp_ft", "strategy.solver=gradient", f"scheduler={scheduler}", "epochs=3"]
    fitted(configured(images, *arguments, *settings), tmp_path)
    assert {name.removesuffix(" (no decay)") for name in rates[1][0]} == {"head"}
    stages = {"stem", "layer1", "layer2", "layer3", "layer4", "head"}
    assert {name.removesuffix(" (no decay)") for name in rates[2][0]} == stages
    assert all(rate > 0 for step in rates[2] for rate in step.values())
    assert all(len({round(rate, 12) for rate in step.values()}) == 1 for step in rates[2])  # lp_ft has one rate for all
    for _, trainer, _model in steps:
        inside = [id(parameter) for group in trainer.optimizers[0].param_groups for parameter in group["params"]]
        assert len(inside) == len(set(inside))
    trained = {id(parameter) for parameter in steps[-1][2].parameters() if parameter.requires_grad}
    last = steps[-1][1].optimizers[0] if steps[-1][1].optimizers else None
    assert last is None or {id(each) for group in last.param_groups for each in group["params"]} == trained
