"""One run from its configuration to its test metrics."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist

from thawlab import recording, report
from thawlab.backbones import freezing
from thawlab.evaluation import gather, test_metrics
from thawlab.job import Job
from thawlab.module import Classifier, Recipe
from thawlab.preparation import Prepared, prepare
from thawlab.tracking.lifecycle import tracked
from thawlab.tracking.runs import Run
from thawlab.tracking.store import open_store
from thawlab.training import (
    Best,
    EpochReport,
    Epochs,
    best_epoch,
    build_trainer,
    peak_memory_mb,
    process_rank,
    quiet_lightning,
)


@dataclass
class Fitted:
    """What training left behind."""

    module: Classifier
    trainer: pl.Trainer
    best: Best
    audited: int  # frozen tensors that were compared
    cost: dict[str, float]


@dataclass
class FittedPhase:
    """What one phase left behind."""

    module: Classifier
    trainer: pl.Trainer
    best: Best  # its epoch counted over all phases
    audited: int  # frozen tensors that were compared
    epochs: Epochs


def run(job: Job) -> dict[str, float]:
    """Train, test and record one run; every process of a distributed run calls this.

    Returns:
        The metrics at the end, by their MLflow names.

    Raises:
        ConfigError: before anything is recorded: what was asked for cannot be run.
        FrozenMovedError: something frozen changed.
    """
    torch.set_float32_matmul_precision("high")
    quiet_lightning()
    store = open_store(job.config.tracking.uri, Path(job.config.tracking.root))
    prepared = prepare(job.config)
    plan = [recording.stage_table(prepared, phase, job.config.optimizer.lr) for phase in prepared.phases]
    tracker = None
    if process_rank() == 0:
        recording.show_start(job, prepared, plan)
        tracker = recording.open_run(job, prepared, store, plan)
    with tracked(tracker):
        if tracker is not None:
            recording.describe(job, prepared, tracker, plan)
        fitted = _fit(job, prepared, tracker)
        metrics = _test(fitted, prepared, tracker, job.output_dir)
        if tracker is not None:
            recording.keep_result(job, prepared, tracker, metrics, fitted.trainer.strategy.root_device)
    if tracker is not None:
        recording.show_result(job, tracker, metrics, fitted.audited)
    return metrics


def _fit(job: Job, prepared: Prepared, tracker: Run | None) -> Fitted:
    """Train the phases one after the other."""
    total = sum(phase.epochs for phase in prepared.phases)

    def on_epoch(epoch: int, metrics: Mapping[str, float]) -> None:
        if tracker is not None:
            report.show_epoch(epoch, total, metrics)
            tracker.log_metrics({name: value for name, value in metrics.items() if "/" in name}, step=epoch)

    done: list[FittedPhase] = []
    for index in range(len(prepared.phases)):
        first_epoch = sum(phase.epochs for phase in prepared.phases[:index])
        done.append(_fit_phase(job, prepared, index, first_epoch, on_epoch))
    sizes = {name: parameter.numel() for name, parameter in prepared.network.model.named_parameters()}
    trained = frozenset().union(*(phase.parameters for phase in prepared.phases))
    training_seconds = sum(phase.epochs.training_seconds for phase in done)
    cost = {
        "cost/fit_seconds": sum(phase.epochs.seconds for phase in done),
        "cost/images_per_second": sum(phase.epochs.images for phase in done) / max(training_seconds, 1e-9),
        "cost/peak_memory_mb": peak_memory_mb(),
        "cost/trainable_params": float(sum(sizes[name] for name in trained)),
        "cost/total_params": float(sum(sizes.values())),
        "cost/cache_seconds": 0.0,
    }
    best = max((phase.best for phase in done), key=lambda each: (each.accuracy, -each.epoch))
    return Fitted(done[-1].module, done[-1].trainer, best, max(phase.audited for phase in done), cost)


def _fit_phase(job: Job, prepared: Prepared, index: int, first_epoch: int, on_epoch: EpochReport) -> FittedPhase:
    """One fit with a fixed set of trainable parameters, audited at its end."""
    config, model, phase = job.config, prepared.network.model, prepared.phases[index]
    freezing.train_only(model, phase.parameters)
    before = freezing.digests(freezing.frozen_state(model))
    module = Classifier(model, len(prepared.data.classes), phase, _recipe(job, index))
    folder = job.output_dir / "checkpoints" / f"{index}_{phase.name}"
    trainer = build_trainer(config.trainer, phase.epochs, folder, on_epoch, first_epoch)
    if config.trainer.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.trainer.compile:
        model.compile()  # in place: a wrapper would rename everything in the state_dict
    last = folder / "last.ckpt"
    resumed = last if job.resume_id and last.is_file() else None
    trainer.fit(module, prepared.loaders, ckpt_path=resumed, weights_only=True)
    audited = freezing.audit(model, before)
    _check_ranks(model)
    best = best_epoch(trainer)
    epochs = next(each for each in trainer.callbacks if isinstance(each, Epochs))  # type: ignore[attr-defined]
    return FittedPhase(module, trainer, replace(best, epoch=best.epoch + first_epoch), audited, epochs)


def _recipe(job: Job, phase: int) -> Recipe:
    config = job.config
    return Recipe(
        optimizer=config.optimizer.name,
        lr=config.optimizer.lr,
        weight_decay=config.optimizer.weight_decay,
        options=config.optimizer.options,
        scheduler=config.scheduler.name,
        warmup=config.scheduler.warmup,
        final=config.scheduler.final,
        label_smoothing=config.label_smoothing,
        mixup=config.augment.mixup,
        cutmix=config.augment.cutmix,
        seed=int(np.random.SeedSequence([config.seed, phase]).generate_state(1)[0]),
        channels_last=bool(config.trainer.channels_last),
    )


def _check_ranks(model: torch.nn.Module) -> None:
    """All processes must hold the same parameters at the end of a phase."""
    if not (dist.is_available() and dist.is_initialized()):
        return
    digests: list[str] = [""] * dist.get_world_size()
    dist.all_gather_object(digests, freezing.digest_of(dict(model.named_parameters())))
    if len(set(digests)) != 1:
        raise RuntimeError(f"the processes ended with different parameters: {digests}")


def _test(fitted: Fitted, prepared: Prepared, tracker: Run | None, folder: Path) -> dict[str, float]:
    """Test the best checkpoint once, on every test image exactly once."""
    state = torch.load(fitted.best.checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    fitted.module.load_state_dict(state)
    fitted.module.tested.clear()
    fitted.trainer.test(fitted.module, prepared.loaders, verbose=False)
    labels = prepared.data.test.labels
    logits = gather(fitted.module.tested, len(labels))
    metrics = test_metrics(logits, labels)
    if tracker is not None:
        recording.keep_predictions(prepared, tracker, logits, folder)
    best = {"best/val_acc": fitted.best.accuracy, "best/epoch": float(fitted.best.epoch)}
    return {**metrics, **best, **fitted.cost}
