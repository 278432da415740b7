"""One run from its configuration to its test metrics."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
import yaml

from thawlab import report
from thawlab.backbones import freezing
from thawlab.config import ConfigError
from thawlab.evaluation import gather, test_metrics
from thawlab.job import Job, config_hash, flat, values
from thawlab.module import Classifier, Recipe
from thawlab.preparation import Prepared, prepare
from thawlab.strategies.phases import Phase
from thawlab.tracking import artifacts, plots
from thawlab.tracking.history import epoch_history, read_run
from thawlab.tracking.lifecycle import tracked
from thawlab.tracking.runs import Run, start_run
from thawlab.tracking.store import Store, open_store
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
    plan = [stage_table(prepared, phase, job.config.optimizer.lr) for phase in prepared.phases]
    tracker = _start(job, prepared, store, plan) if process_rank() == 0 else None
    with tracked(tracker):
        fitted = _fit(job, prepared, tracker)
        metrics = _test(fitted, prepared, tracker, job.output_dir)
        if tracker is not None:
            _record(job, prepared, tracker, fitted, metrics)
    if tracker is not None:
        audited = f"{fitted.audited} frozen tensors unchanged, bit for bit" if fitted.audited else "nothing was frozen"
        report.show_result(metrics, audited, tracker.id, store.ui_command, _relative(job.output_dir))
    return metrics


def stage_table(prepared: Prepared, phase: Phase, lr: float) -> dict[str, Any]:
    """A phase as it is shown and kept in `stages.json`: each stage's parameters, frozen or its learning rate."""
    sizes = {name: parameter.numel() for name, parameter in prepared.network.model.named_parameters()}
    scale = {name: group.lr_scale for group in phase.groups for name in group.parameters}
    groups = [(stage.name, stage.parameters) for stage in prepared.layers.stages]
    rows = []
    for name, parameters in [*groups, ("head", prepared.layers.head)]:
        rates = sorted({lr * scale[each] for each in parameters if each in scale})
        count = sum(sizes[each] for each in parameters)
        rows.append({"name": name, "parameters": count, "frozen": not rates, "lr": rates[-1] if rates else None})
    return {"phase": phase.name, "epochs": phase.epochs, "stages": [row for row in rows if row["parameters"]]}


def _start(job: Job, prepared: Prepared, store: Store, plan: list[dict[str, Any]]) -> Run:
    config, data = job.config, prepared.data
    facts = {
        "backbone": f"{config.backbone.name}, weights {prepared.network.weights}",
        "dataset": f"{data.name}: {len(data.classes)} classes, {len(data.train)} train, {len(data.val)} val, "
        f"{len(data.test)} test images at {prepared.image_size} pixels",
        "freeze": f"{config.freeze} → depth {prepared.freeze_depth} of {len(prepared.layers.stages) - 1}: "
        + (", ".join(prepared.frozen_names) or "nothing"),
    }
    report.show_start(job.short, facts, prepared.notes)
    for phase in plan:
        report.show_stages(phase)
    tags = {
        "config_hash": config_hash(config),
        "dataset_digest": data.digest,
        "weights_digest": prepared.network.weights_digest,
        "output_dir": str(job.output_dir.resolve()),
        "overrides": "\n".join(job.overrides),
    }
    if job.sweep:
        tags["sweep_id"] = job.sweep["sweep_id"]
    if job.resume_id:
        past = read_run(store, job.resume_id)
        if past.tags.get("dataset_digest") != data.digest:
            raise ConfigError(f"resume={job.resume_id}: the images have changed since; start a new run")
    parameters = {**flat(values(config)), "freeze_depth": prepared.freeze_depth, "weights": prepared.network.weights}
    parameters["freeze_stages"] = " ".join(prepared.frozen_names) or "none"
    parameters |= {f"preprocessing.{key}": value for key, value in prepared.network.preprocessing.items()}
    try:
        tracker = start_run(
            store,
            job.experiment_name,
            name=f"{job.short}{'' if 'seed=' in job.short else f' seed={config.seed}'} {uuid4().hex[:4]}",
            params=parameters,
            tags=tags,
            parent_id=job.sweep.get("parent_id"),
            resume_id=job.resume_id,
            note=_note(job, facts, plan),
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    (job.output_dir / "run_id").write_text(tracker.id, encoding="utf-8")
    summary = {
        "freeze_depth": prepared.freeze_depth,
        "stages": [stage.name for stage in prepared.layers.stages[1:]],
        "title": f"{config.backbone.name} on {data.name}",
    }
    (job.output_dir / "stages.json").write_text(json.dumps(summary), encoding="utf-8")
    tracker.log_text(yaml.safe_dump(values(config), sort_keys=False), "config/config.yaml")
    tracker.log_text(yaml.safe_dump(list(job.overrides)), "config/overrides.yaml")
    tracker.log_dict(plan, "stages.json")
    artifacts.environment(job.output_dir / "requirements.txt")
    tracker.log_artifact(job.output_dir / "requirements.txt", "environment")
    source = str(getattr(config.dataset, "root", data.name))
    for role, split in (("train", data.train), ("val", data.val), ("test", data.test)):
        tracker.log_dataset(role, data.name, data.digest, len(split), data.classes, source)
    return tracker


def _note(job: Job, facts: Mapping[str, str], plan: list[dict[str, Any]]) -> str:
    lines = [f"- **{name}**: {value}" for name, value in facts.items()]
    lines += [f"- **phase {phase['phase']}**: {phase['epochs']} epochs" for phase in plan]
    return "\n".join([f"`python train.py {' '.join(job.overrides)}`".replace(" `", "`"), "", *lines])


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
    test = prepared.data.test
    logits = gather(fitted.module.tested, len(test))
    metrics = test_metrics(logits, test.labels)
    if tracker is not None:
        probabilities = torch.from_numpy(logits).softmax(1).numpy()
        path = folder / "predictions" / "test.parquet"
        artifacts.write_predictions(path, test.ids, test.paths, test.labels, probabilities, prepared.data.classes)
        tracker.log_artifact(path, "predictions")
        plots.confusion_matrix(
            test.labels, logits.argmax(1), prepared.data.classes, folder / "plots" / "confusion_matrix.png"
        )
    best = {"best/val_acc": fitted.best.accuracy, "best/epoch": float(fitted.best.epoch)}
    return {**metrics, **best, **fitted.cost}


def _record(job: Job, prepared: Prepared, tracker: Run, fitted: Fitted, metrics: Mapping[str, float]) -> None:
    history = epoch_history(tracker.store, tracker.id)
    plots.learning_curves(history, job.output_dir / "plots" / "learning_curves.png", fitted.best.epoch)
    tracker.log_artifact(job.output_dir / "plots", "plots")
    if job.config.tracking.checkpoint:
        tracker.log_artifact(_best_weights(fitted, prepared, job), "checkpoints")
    tracker.set_tags({"device": f"{fitted.trainer.strategy.root_device} on {platform.machine()}"})
    tracker.log_metrics(metrics)
    (job.output_dir / "result.json").write_text(
        json.dumps({"run_id": tracker.id, "metrics": dict(metrics)}, indent=2), encoding="utf-8"
    )


def _best_weights(fitted: Fitted, prepared: Prepared, job: Job) -> Path:
    """The best epoch's weights under timm's names, with what is needed to use them: plain data only."""
    path = job.output_dir / "best.ckpt"
    content = {
        "state_dict": {name: value.cpu() for name, value in fitted.module.model.state_dict().items()},
        "architecture": job.config.backbone.name,
        "classes": list(prepared.data.classes),
        "image_size": prepared.image_size,
        "preprocessing": {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in prepared.network.preprocessing.items()
        },
    }
    torch.save(content, path)
    return path


def _relative(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
