"""Fitting many linear heads at once: one training, an outcome for each of them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, nan
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor

from thawlab.backbones import freezing
from thawlab.backbones.linear_head import linear_head, write
from thawlab.config.divergence import diverged
from thawlab.config.schema import Config
from thawlab.config.small_data import rule_for
from thawlab.training.best_epoch import Best
from thawlab.training.epochs import Epochs
from thawlab.training.evaluation import check_finite
from thawlab.training.events import Events
from thawlab.training.heads.batches import Features
from thawlab.training.heads.features import Source, starts, stored
from thawlab.training.heads.module import Head, HeadRecipe, ManyHeads
from thawlab.training.heads.optimizer import coupling
from thawlab.training.outcome import Tested
from thawlab.training.preparation import Prepared, phase_seed, schedule_of
from thawlab.training.trainer import (
    build_trainer,
    callbacks_of,
    device_description,
    precision_name,
    size_and_memory,
)


@dataclass(frozen=True, eq=False)
class FittedHead:
    """One of the heads after their training; `audited` and `cost` are those of all of them."""

    index: int
    config: Config
    prepared: Prepared
    module: ManyHeads
    trainer: pl.Trainer
    audited: int
    cost: Mapping[str, float]
    histories: Sequence[Sequence[Mapping[str, float]]] = field(repr=False)

    @property
    def best(self) -> Best:
        return self.module.chosen[self.index]

    @property
    def history(self) -> Sequence[Mapping[str, float]]:
        return self.histories[self.index]

    def test(self) -> Tested:
        for row in self.history:
            if not (isfinite(row["train/loss"]) and isfinite(row["val/loss"])):
                raise diverged("loss", self.config.optimizer.lr, int(row["epoch"]) + 1)
        write(linear_head(self.prepared.network.model), *self.module.best(self.index))
        with torch.no_grad(), self.trainer.precision_plugin.forward_context():
            logits = self.module.test_logits(self.index).numpy()
        check_finite(logits)
        return Tested(logits, self.cost, device_description(self.trainer))


def fit_heads(
    configs: Sequence[Config],
    prepared: Prepared,
    folder: Path,
    events: Events | None = None,
    source: Source = stored,
) -> list[FittedHead]:
    """Train a linear head as each of the configurations wants it; they differ in nothing but `head_grid.KEYS`.

    Args:
        configs: of the heads.
        prepared: the network with its images, for the first of them.
        folder: for what Lightning writes.
        events: is told what happens; a network is a head.
        source: where the features come from.

    Raises:
        FrozenMovedError: something frozen changed.
    """
    events = events or Events()
    config, phase, model = configs[0], prepared.phases[0], prepared.network.model
    heads = _heads(configs, prepared)
    freezing.train_only(model, phase.parameters)
    before = freezing.digests(freezing.frozen_state(model, phase.batch_norm))

    def on_epoch(epoch: int, metrics: Mapping[str, float]) -> None:
        events.epoch_ends(epoch, phase.epochs, _by_head(module.history[-1]), metrics["seconds"])

    trainer = build_trainer(config.trainer, phase.epochs, folder, on_epoch, rule=None)
    began = time.perf_counter()
    features = source(config, prepared, trainer.strategy.root_device, trainer.precision_plugin.forward_context, events)
    cost = {"cost/cache_seconds": time.perf_counter() - began, **features.cost}
    if precision_name(config.trainer) == "16-mixed":
        # Its gradients are scaled for all heads by the one that overflows; heads are small enough for float32.
        settings = config.trainer.model_copy(update={"precision": 32})
        trainer = build_trainer(settings, phase.epochs, folder, on_epoch, rule=None)
    module = ManyHeads(heads, features, _recipe(config, prepared))
    trainer.fit(module)
    audited = freezing.audit(model, before, phase.batch_norm)
    cost = {**_cost(prepared, trainer, features), **cost}
    histories = _histories(module.history)
    return [
        FittedHead(index, each, prepared, module, trainer, audited, cost, histories)
        for index, each in enumerate(configs)
    ]


def _heads(configs: Sequence[Config], prepared: Prepared) -> list[Head]:
    """The heads as runs of their own would start them, with what is their own."""
    drawn = starts(configs[0], prepared, list(dict.fromkeys(config.seed for config in configs)))
    (group,) = prepared.phases[0].groups
    model = prepared.network.model
    own = linear_head(model).weight
    name = next(name for name, parameter in model.named_parameters() if parameter is own)
    decays = name not in set(getattr(model, "no_weight_decay", set)())
    return [
        Head(
            *drawn[config.seed],
            order=phase_seed(config.seed, 0),
            lr=config.optimizer.lr * group.lr_scale,
            weight_decay=config.optimizer.weight_decay if decays else 0.0,
            label_smoothing=config.label_smoothing,
        )
        for config in configs
    ]


def _recipe(config: Config, prepared: Prepared) -> HeadRecipe:
    optimizer, options = config.optimizer.name, config.optimizer.options
    schedule = prepared.phases[0].schedule or schedule_of(config)
    rule = rule_for(config.trainer.select, len(prepared.data.val))
    kernel = coupling(optimizer, options)
    return HeadRecipe(optimizer, options, kernel, schedule, config.batch_size, rule, prepared.passes)


def _cost(prepared: Prepared, trainer: pl.Trainer, features: Features) -> dict[str, float]:
    epochs = callbacks_of(trainer, Epochs)[0]
    images = features.train.shape[1] * prepared.passes * trainer.current_epoch  # by each head
    return {
        "cost/fit_seconds": epochs.seconds,
        "cost/images_per_second": images / max(epochs.training_seconds, 1e-9),
        **size_and_memory(prepared.network.model, prepared.phases[0].parameters),
    }


def _by_head(metrics: Mapping[str, Tensor]) -> list[dict[str, float]]:
    """The metrics of an epoch, (H,) each, as one row a head."""
    columns = {name: values.tolist() for name, values in metrics.items()}
    return [{**dict(zip(columns, row, strict=True)), "phase": 1.0} for row in zip(*columns.values(), strict=True)]


def _histories(epochs: Sequence[Mapping[str, Tensor]]) -> list[list[dict[str, float]]]:
    """The metrics of all epochs by head, as MLflow would give them back: what is not finite is NaN."""
    by_epoch = [_by_head({name: values.nan_to_num(nan, nan, nan) for name, values in each.items()}) for each in epochs]
    return [[{"epoch": epoch, **row} for epoch, row in enumerate(of_head)] for of_head in zip(*by_epoch, strict=True)]
