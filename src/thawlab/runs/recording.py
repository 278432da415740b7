"""What a run leaves in MLflow and in its folder: at its start, and at its end."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
import yaml

from thawlab import console
from thawlab.config.job import Job, config_hash, flat, values
from thawlab.config.schema import ConfigError, Derived, name_of
from thawlab.data import class_counts
from thawlab.runs import same_inputs
from thawlab.runs.member import StageTable
from thawlab.strategies.phases import Phase
from thawlab.system.atomic import write_atomically
from thawlab.system.markdown import code, plain
from thawlab.tracking import plot_fonts, plots, prediction_files
from thawlab.tracking.history import epoch_history
from thawlab.tracking.prediction_files import PREDICTIONS
from thawlab.tracking.run import Run, start_run
from thawlab.tracking.store import Store
from thawlab.training import few_images
from thawlab.training.checkpoints import tensors
from thawlab.training.preparation import Prepared


def stage_table(prepared: Prepared, phase: Phase, lr: float) -> dict[str, Any]:
    """A phase as it is shown and kept in `stages.json`: each stage's parameters, frozen or its learning rate."""
    sizes = {name: parameter.numel() for name, parameter in prepared.network.model.named_parameters()}
    scale = {name: group.lr_scale for group in phase.groups for name in group.parameters}
    parts = (*prepared.layers.stages, *prepared.layers.beside)
    rows = []
    for name, parameters in [*((part.name, part.parameters) for part in parts), ("head", prepared.layers.head)]:
        trained = [each for each in parameters if each in scale]
        rates = sorted({lr * scale[each] for each in trained})
        row = {"name": name, "parameters": sum(sizes[each] for each in parameters)}
        row |= {"trained": sum(sizes[each] for each in trained), "frozen": not trained}
        rows.append({**row, "lr": rates[-1] if rates and phase.logistic is None else None})
    how = {"batch_norm": phase.batch_norm, "solver": "lbfgs" if phase.logistic else "gradient"}
    stages = [row for row in rows if row["parameters"]]
    return {"phase": phase.name, "epochs": phase.epochs, **how, "rates": phase.rates, "stages": stages}


def facts(job: Job, prepared: Prepared) -> dict[str, str]:
    """What is trained on what, in words."""
    config, data = job.config, prepared.data
    depth = f"{config.freeze} → depth {prepared.freeze_depth} of {len(prepared.layers.stages) - 1}"
    kept = [stage.name for stage in prepared.layers.stages[: prepared.plan.transferred] if stage.parameters]
    everything = prepared.plan.transferred == len(prepared.layers.stages)
    transfer = {} if everything else {"transfer": f"{config.transfer} → copied: {', '.join(kept) or 'nothing'}"}
    return {
        "backbone": f"{config.backbone.name}, weights {prepared.weights}",
        "strategy": f"{name_of(config.strategy)}: " + ", then ".join(phase.name for phase in prepared.phases),
        "dataset": f"{data.name}: {len(data.classes)} classes, {len(data.train)} train, {len(data.val)} val, "
        f"{len(data.test)} test images at {prepared.image_size} pixels",
        "classes": class_counts.in_words(data),
        **transfer,
        "freeze": f"{depth}: {', '.join(prepared.frozen_names) or 'nothing'}",
    }


def open_run(job: Job, prepared: Prepared, store: Store, plan: Sequence[StageTable], remark: str = "") -> Run:
    """Open the MLflow run, or reopen the one to go on with.

    Args:
        job: what it is of.
        prepared: its parts.
        store: where it is kept.
        plan: its phases.
        remark: a sentence of its note.

    Raises:
        ConfigError: the store cannot be used, or the images of a resumed run have changed.
    """
    tags = {
        "config_hash": config_hash(job.config),
        "dataset_digest": prepared.data.digest,
        "test_digest": prepared.data.test_digest,
        "weights_digest": prepared.network.weights_digest,
        "output_dir": str(job.output_dir.resolve()),
        "overrides": "\n".join(job.overrides),
        **few_images.facts(job.config, prepared.data, prepared.phases),
    }
    if job.sweep:
        tags["sweep_id"] = job.sweep["sweep_id"]
    if job.rerun_of:
        tags["rerun_of"] = job.rerun_of
    try:
        same_inputs.check(job, prepared, store)
        return start_run(
            store,
            job.experiment_name,
            name=f"{job.run_name} {uuid4().hex[:4]}",
            params=_parameters(job, prepared),
            tags=tags,
            parent_id=job.sweep.get("parent_id"),
            resume_id=job.resume_id,
            note=_note(job, prepared, plan, remark),
        )
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _parameters(job: Job, prepared: Prepared) -> dict[str, Any]:
    derived = Derived(
        transfer_depth=prepared.transfer_depth,
        freeze_depth=prepared.freeze_depth,
        freeze_stages=" ".join(prepared.frozen_names) or "none",
        weights=prepared.weights,
        passes=prepared.passes,
        preprocessing=dict(prepared.network.preprocessing),
    )
    return flat({**values(job.config), **values(derived)})


def _note(job: Job, prepared: Prepared, plan: Sequence[StageTable], remark: str) -> str:
    lines = [f"- **{name}**: {plain(value)}" for name, value in facts(job, prepared).items()]
    lines += [f"- **phase {plain(phase['phase'])}**: {phase['epochs']} epochs" for phase in plan]
    lines += [f"- {line}" for line in (*job.relations, remark) if line]
    command = " ".join(["python train.py", *job.overrides])
    return "\n".join([code(command), "", *lines])


def describe(job: Job, prepared: Prepared, tracker: Run, plan: Sequence[StageTable], requirements: Path) -> None:
    """Keep what is known before training: configuration, stages, the list of packages, data."""
    config, data = job.config, prepared.data
    write_atomically(job.output_dir / "run_id", tracker.id)
    tracker.log_text(yaml.safe_dump(values(config), sort_keys=False), "config/config.yaml")
    tracker.log_text(yaml.safe_dump(list(job.overrides)), "config/overrides.yaml")
    tracker.log_dict(list(plan), "stages.json")
    tracker.log_artifact(requirements, "environment")
    source = str(getattr(config.dataset, "root", data.name))
    sizes = {"train": len(data.train), "val": len(data.val), "test": len(data.test)}
    tracker.log_datasets(sizes, data.name, data.digest, data.classes, source)


def keep_predictions(prepared: Prepared, tracker: Run, logits: np.ndarray, folder: Path) -> None:
    """Keep the tested images' probabilities; `logits` is (test images, classes)."""
    test, classes = prepared.data.test, prepared.data.classes
    path = folder / PREDICTIONS
    probabilities = torch.from_numpy(logits).softmax(1).numpy()
    prediction_files.write_predictions(path, test.ids, test.paths, test.labels, probabilities, classes, test.hashes)
    tracker.log_artifact(path, "predictions")


def keep_result(
    job: Job,
    prepared: Prepared,
    tracker: Run,
    metrics: Mapping[str, float],
    history: Sequence[Mapping[str, float]] | None,
) -> None:
    """Keep the metrics at the end, the best weights and, as far as they can be drawn, the pictures.

    The metrics of each epoch are read from the store where `history` does not give them: only it has those of a run
    that was resumed.
    """
    history = epoch_history(tracker.store, tracker.id) if history is None else history
    tracker.log_metrics(metrics)
    content = {"run_id": tracker.id, "metrics": dict(metrics)}
    write_atomically(job.output_dir / "result.json", json.dumps(content, indent=2))
    if job.config.tracking.checkpoint:
        tracker.log_artifact(_best_weights(job, prepared), "checkpoints")
    _keep_pictures(job.output_dir, prepared, tracker, history, int(metrics["best/epoch"]))


def _keep_pictures(
    folder: Path, prepared: Prepared, tracker: Run, history: Sequence[Mapping[str, float]], best_epoch: int
) -> None:
    """Draw the learning curves and the confusions; the run is none the worse where that is not possible."""
    made, classes = folder / "plots", prepared.data.classes
    with console.left_out_if_it_fails("the picture of the learning curves"):
        plots.learning_curves(history, made / "learning_curves.png", best_epoch)
    with console.left_out_if_it_fails("the picture of the confusions"):
        if note := plot_fonts.lacking(classes):
            console.show_note(note)
        labels, predicted = prediction_files.read_classes(folder / PREDICTIONS, classes)
        plots.confusion_matrix(labels, predicted, classes, made / "confusion_matrix.png")
    with console.left_out_if_it_fails("the folder of pictures"):
        if made.is_dir():
            tracker.log_artifact(made, "plots")


def _best_weights(job: Job, prepared: Prepared) -> Path:
    """The tested weights under timm's names, with what is needed to use them: plain data only."""
    path = job.output_dir / "best.ckpt"
    preprocessing = prepared.network.preprocessing.items()
    content = {
        "state_dict": {name: value.cpu() for name, value in prepared.network.model.state_dict().items()},
        "architecture": job.config.backbone.name,
        "options": prepared.network.options,
        "extension": _extension(job, prepared),
        "classes": list(prepared.data.classes),
        "image_size": prepared.image_size,
        "preprocessing": {key: list(value) if isinstance(value, tuple) else value for key, value in preprocessing},
    }
    write_atomically(path, tensors(content))
    return path


def _extension(job: Job, prepared: Prepared) -> dict[str, Any] | None:
    """What the kept weights need beside timm's architecture, if anything."""
    return None if prepared.plan.plain else values(job.config.strategy)
