"""Learning rates that are scaled every epoch, in real fits on the CPU."""

from copy import deepcopy
from pathlib import Path

import pytest

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)
from small_fits import changed, freeze, recipe, small, state_of

# isort: split
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

from thawlab.training.optimizers import create_schedule
from thawlab.training.relative_gradients import relative_gradients
from thawlab.training.relative_lr import RelativeRates

EPOCHS, STEPS = 3, 3
SCHEDULES = {"cosine": LambdaLR, "onecycle": OneCycleLR}


def images() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(7)
    return [(torch.randn(6, 3, 32, 32, generator=generator), torch.arange(6) % 3)]


class Watch(pl.Callback):
    """Notes each epoch's network before it begins, and every step's rates."""

    def __init__(self) -> None:
        self.models: list[nn.Module] = []
        self.rates: list[dict[str, float]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.models.append(deepcopy(pl_module.model))
        assert {type(each.scheduler) for each in trainer.lr_scheduler_configs} <= set(SCHEDULES.values())

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
        self.rates.append({group["name"]: group["lr"] for group in trainer.optimizers[0].param_groups})


class Interrupt(pl.Callback):
    """Stops after the first epoch's checkpoint."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 1:
            raise InterruptedError


def unscaled(schedule: str) -> list[float]:
    """The rate at each step, were all scales one."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    moved = create_schedule(recipe(scheduler=schedule, warmup=0.3).schedule, optimizer, EPOCHS * STEPS)
    rates = []
    for _ in range(EPOCHS * STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        moved.step()
    return rates


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_rate_is_the_schedules_times_the_groups_share_of_the_largest_relative_gradient(schedule, fit):
    model, watch = small("test_resnet"), Watch()
    phase = freeze(model, 2, epochs=EPOCHS)
    fit(model, phase, recipe(scheduler=schedule, warmup=0.3), callbacks=(RelativeRates(images), watch))
    groups = {group.name: group.parameters for group in phase.groups if group.name != "head"}
    assert len(watch.rates) == EPOCHS * STEPS
    shares = []
    for network in watch.models:
        sizes = relative_gradients(network, groups, images())
        shares.append({"head": 1.0} | {group: size / max(sizes.values()) for group, size in sizes.items()})
    assert shares[0] != pytest.approx(shares[1])
    for step, (plain, rates) in enumerate(zip(unscaled(schedule), watch.rates, strict=True)):
        expected = {name: plain * shares[step // STEPS][name.removesuffix(" (no decay)")] for name in rates}
        assert rates == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_resumed_fit_equals_one_that_was_not_interrupted(schedule, fit, tmp_path: Path):
    def fitted(folder: str, *callbacks: pl.Callback, resume: Path | None = None) -> tuple[nn.Module, Watch]:
        model, watch = small("test_resnet"), Watch()
        settings = recipe(scheduler=schedule, warmup=0.3)
        fit(
            model,
            freeze(model, 2, epochs=EPOCHS),
            settings,
            resume,
            (RelativeRates(images), watch, *callbacks),
            folder=tmp_path / folder,
        )
        return model, watch

    whole, seen = fitted("whole")
    with pytest.raises(InterruptedError):
        fitted("parts", Interrupt())
    resumed, seen_later = fitted("parts", resume=tmp_path / "parts" / "last.ckpt")
    assert changed(whole.state_dict(), resumed.state_dict()) == set()
    assert seen.rates[STEPS:] == seen_later.rates


def test_measuring_moves_no_buffer_and_no_mode(fit):
    model = small("test_resnet")
    moved: list[set[str]] = []

    class Around(RelativeRates):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            before, modes = state_of(model), [module.training for module in model.modules()]
            super().on_train_epoch_start(trainer, pl_module)
            assert [module.training for module in model.modules()] == modes
            moved.append(changed(before, model.state_dict()))

    fit(model, freeze(model, 0, epochs=2), recipe(), callbacks=(Around(images),))
    assert moved == [set(), set()]


def test_a_group_without_any_gradient_gets_next_to_no_rate_and_recovers(fit):
    model = small("test_resnet")
    phase, watch = freeze(model, 3, epochs=2), Watch()
    nn.init.zeros_(model.fc.weight)  # no gradient passes it, until it has moved
    fit(model, phase, recipe(lr=0.01), callbacks=(RelativeRates(images, fixed=()), watch))
    assert watch.rates[0]["layer4"] == pytest.approx(0.01 * 1e-12)
    assert watch.rates[STEPS]["layer4"] > 1e-6


def test_where_no_stage_has_a_gradient_all_keep_their_rates(fit):
    model = small("test_resnet")
    phase, watch = freeze(model, 3, epochs=1), Watch()
    nn.init.zeros_(model.fc.weight)
    fit(model, phase, recipe(lr=0.01), callbacks=(RelativeRates(images), watch))
    assert watch.rates[0]["layer4"] == watch.rates[0]["head"] == pytest.approx(0.01)
