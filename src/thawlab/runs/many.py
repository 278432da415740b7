"""Many linear heads from their configurations to their test metrics: one training, a run in MLflow for each of them."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from thawlab import console
from thawlab.backbones import freezing
from thawlab.backbones.linear_head import linear_head, write
from thawlab.config.divergence import diverged
from thawlab.config.job import Job
from thawlab.runs import family, recording
from thawlab.runs.family import Child
from thawlab.strategies.phases import Schedule
from thawlab.tracking.lifecycle import tracked
from thawlab.tracking.metric_buffer import EpochLog
from thawlab.tracking.store import open_store
from thawlab.training.best_epoch import rule_for
from thawlab.training.evaluation import check_finite, compute_test_metrics
from thawlab.training.heads.batches import Features
from thawlab.training.heads.features import Source, check, starts, stored
from thawlab.training.heads.module import Head, HeadRecipe, ManyHeads
from thawlab.training.heads.optimizer import coupling
from thawlab.training.preparation import Prepared, phase_seed, prepare, user_mistakes
from thawlab.training.trainer import (
    CheckpointMetadata,
    Epochs,
    build_trainer,
    device_description,
    peak_memory_mb,
    precision_name,
    quiet_lightning,
)


def run_many(job: Job, source: Source = stored) -> int:
    """Train, test and record the heads of `job.variants`, which differ in nothing but `head_grid.KEYS`.

    Args:
        job: what is to be trained.
        source: where the features come from.

    Returns:
        The exit code: 0, or 1 if a head could not be tested or recorded; the others are none the worse for it.

    Raises:
        ConfigError: before anything is recorded: what was asked for cannot be run.
        FrozenMovedError: something frozen changed.
    """
    torch.set_float32_matmul_precision("high")
    quiet_lightning()
    with user_mistakes():
        store = open_store(job.config.tracking.uri, Path(job.config.tracking.root))
    prepared = prepare(job.config)
    seeds = list(dict.fromkeys(config.seed for config in job.variants))
    check(job.config, prepared, seeds)
    heads = _heads(job, prepared, seeds)
    plans = [[recording.stage_table(prepared, prepared.phases[0], each.optimizer.lr)] for each in job.variants]
    family.show_start(job, prepared, plans)
    parent = family.open_parent(job, store)
    with tracked(parent):
        children = family.open_children(job, prepared, store, plans, parent)
        with family.closing(children):
            began = time.monotonic()
            module, trainer, shared = _train(job, prepared, heads, children, source)
            seconds = time.monotonic() - began
            for child, history in zip(children, family.histories(module.history), strict=True):
                with family.isolated(child):
                    child.metrics = _finish(child, prepared, module, trainer, shared, history)
                child.seconds = seconds
    failed = family.close(job, store, parent, children)
    return 1 if failed else 0


def _heads(job: Job, prepared: Prepared, seeds: Sequence[int]) -> list[Head]:
    """The heads as runs of their own would start them, with what is their own."""
    drawn = starts(job.config, prepared, seeds)
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
        for config in job.variants
    ]


def _train(
    job: Job, prepared: Prepared, heads: Sequence[Head], children: Sequence[Child], source: Source
) -> tuple[ManyHeads, pl.Trainer, dict[str, float]]:
    """Get the features and train on them; also what that cost, by its names in MLflow."""
    config, phase, model = job.config, prepared.phases[0], prepared.network.model
    freezing.train_only(model, phase.parameters)
    before = freezing.digests(freezing.frozen_state(model, phase.batch_norm))
    log = EpochLog([child.run for child in children])

    def on_epoch(epoch: int, metrics: Mapping[str, float]) -> None:
        rows = family.rows(module.history[-1])
        family.show_epoch(epoch, phase.epochs, rows, children, metrics["seconds"])
        log.add(epoch, rows)

    trainer = build_trainer(config.trainer, phase.epochs, job.output_dir, on_epoch)
    began = time.perf_counter()
    features = source(config, prepared, trainer.strategy.root_device, trainer.precision_plugin.forward_context)
    cost = {"cost/cache_seconds": time.perf_counter() - began, **features.cost}
    if precision_name(config.trainer) == "16-mixed":
        # Its gradients are scaled for all heads by the one that overflows; heads are small enough for float32.
        settings = config.trainer.model_copy(update={"precision": 32})
        trainer = build_trainer(settings, phase.epochs, job.output_dir, on_epoch)
    kept: Any = trainer.callbacks  # type: ignore[attr-defined]
    trainer.callbacks = [each for each in kept if not isinstance(each, Checkpoint | CheckpointMetadata)]  # type: ignore[attr-defined]
    module = ManyHeads(heads, features, _recipe(job, prepared))
    trainer.fit(module)
    log.flush()
    audited = freezing.audit(model, before, phase.batch_norm)
    console.terminal.print(f"{len(heads)} heads trained; {audited} frozen tensors unchanged, bit for bit")
    return module, trainer, {**_cost(prepared, trainer, features), **cost}


def _recipe(job: Job, prepared: Prepared) -> HeadRecipe:
    config = job.config
    scheduler = Schedule(config.scheduler.name, config.scheduler.warmup, config.scheduler.final)
    optimizer, options = config.optimizer.name, config.optimizer.options
    schedule = prepared.phases[0].schedule or scheduler
    rule = rule_for(config.trainer.select, len(prepared.data.val))
    kernel = coupling(optimizer, options)
    return HeadRecipe(optimizer, options, kernel, schedule, config.batch_size, rule, prepared.passes)


def _cost(prepared: Prepared, trainer: pl.Trainer, features: Features) -> dict[str, float]:
    sizes = {name: parameter.numel() for name, parameter in prepared.network.model.named_parameters()}
    epochs = next(each for each in trainer.callbacks if isinstance(each, Epochs))  # type: ignore[attr-defined]
    images = features.train.shape[1] * prepared.passes * trainer.current_epoch  # by each head
    return {
        "cost/fit_seconds": epochs.seconds,
        "cost/images_per_second": images / max(epochs.training_seconds, 1e-9),
        "cost/peak_memory_mb": peak_memory_mb(),
        "cost/trainable_params": float(sum(sizes[name] for name in prepared.phases[0].parameters)),
        "cost/total_params": float(sum(sizes.values())),
    }


def _finish(
    child: Child,
    prepared: Prepared,
    module: ManyHeads,
    trainer: pl.Trainer,
    shared: Mapping[str, float],
    history: Sequence[Mapping[str, float]],
) -> dict[str, float]:
    """Put the head at its best into the network, test it and keep it."""
    index = child.number - 1
    if child.diverged is not None:
        raise diverged("loss", child.job.config.optimizer.lr, child.diverged + 1)
    write(linear_head(prepared.network.model), *module.best(index))
    with torch.no_grad(), trainer.precision_plugin.forward_context():
        logits = module.test_logits(index).numpy()
    check_finite(logits)
    recording.keep_predictions(prepared, child.run, logits, child.job.output_dir)
    child.run.set_tags({"device": device_description(trainer)})
    chosen = module.chosen[index]
    best = {"best/val_acc": chosen.accuracy, "best/epoch": float(chosen.epoch)}
    metrics = {**compute_test_metrics(logits, prepared.data.test.labels), **best, **shared}
    recording.keep_result(child.job, prepared, child.run, metrics, history)
    (child.job.output_dir / "best.ckpt").unlink(missing_ok=True)  # the store has it
    return metrics
