"""Learning rates that follow the gradients: each group's is scaled, every epoch, by its relative gradient."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import pytorch_lightning as pl
from torch import nn
from torch.optim import Optimizer

from thawlab.training.relative_gradients import Batches, relative_gradients

_RATES = ("lr", "initial_lr", "max_lr", "min_lr")  # the last two are OneCycleLR's
_LEAST = 1e-12  # a group without any gradient: the next epoch's scale is a multiple of this one's


class RelativeRates(pl.Callback):
    """Auto-RGN of Lee et al. 2023: the largest relative gradient gets the full rate, the others their share of it.

    A new head keeps its rate: it is random where the stages are trained, so its gradient would dwarf all of theirs.
    (The paper's head is the source's.) The scales are kept in the optimizer's groups, and so in every checkpoint.

    Args:
        batches: makes the images, without augmentation, and labels to measure on; called at each epoch's start, in the
            first process only.
        fixed: names of groups that keep their rate.
    """

    def __init__(self, batches: Callable[[], Batches], fixed: Collection[str] = ("head",)) -> None:
        self.batches = batches
        self.fixed = fixed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        optimizer = trainer.optimizers[0]
        scales: dict[str, float] = {}
        if trainer.is_global_zero:
            model: Any = pl_module.model
            groups = {name: each for name, each in _group_names(model, optimizer).items() if name not in self.fixed}
            sizes = relative_gradients(model, groups, self.batches())
            largest = max(sizes.values())
            scales = {group: max(size / largest, _LEAST) if largest else 1.0 for group, size in sizes.items()}
        scales = trainer.strategy.broadcast(scales)
        schedules: list[Any] = [each.scheduler for each in trainer.lr_scheduler_configs]
        for index, group in enumerate(optimizer.param_groups):
            scale = scales.get(_name(group), 1.0)
            change = scale / group.get("rate_scale", 1.0)
            group["rate_scale"] = scale
            for key in _RATES:
                if key in group:
                    group[key] = group[key] * change
            for schedule in schedules:
                schedule.base_lrs[index] = schedule.base_lrs[index] * change


def _group_names(model: nn.Module, optimizer: Optimizer) -> dict[str, list[str]]:
    """Names of the parameters of each group; those with and without weight decay are one."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups: dict[str, list[str]] = {}
    for group in optimizer.param_groups:
        groups.setdefault(_name(group), []).extend(names[id(parameter)] for parameter in group["params"])
    return groups


def _name(group: Mapping[str, object]) -> str:
    return str(group["name"]).removesuffix(" (no decay)")
