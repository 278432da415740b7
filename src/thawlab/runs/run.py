"""One run from its configuration to its test metrics."""

from pathlib import Path

import torch

from thawlab.config.job import Job
from thawlab.runs import recording
from thawlab.system.process_rank import process_rank
from thawlab.tracking.lifecycle import tracked
from thawlab.tracking.run import Run
from thawlab.tracking.store import open_store
from thawlab.training.cache.feature_cache import FeatureCache
from thawlab.training.evaluation import check_finite, compute_test_metrics, gather
from thawlab.training.fit import Fitted, classifier, fit, phase_folder
from thawlab.training.preparation import Prepared, prepare, user_mistakes
from thawlab.training.trainer import build_trainer, device_description, quiet_lightning


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
    with user_mistakes():
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
        cache = FeatureCache(job.config, prepared)
        fitted = fit(job, prepared, tracker, cache)
        metrics = {**_test(job, fitted, prepared, tracker, cache), **fitted.cost, **cache.totals.metrics()}
        if tracker is not None:
            recording.keep_result(job, prepared, tracker, metrics)
    if tracker is not None:
        recording.show_result(job, prepared, tracker, metrics, fitted.audited)
    return metrics


def _test(job: Job, fitted: Fitted, prepared: Prepared, tracker: Run | None, cache: FeatureCache) -> dict[str, float]:
    """Test the network as it was at its best, and as it will be kept, once, on every test image exactly once."""
    state = torch.load(fitted.best.checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    last = len(prepared.phases) - 1
    module = classifier(job, prepared, last)
    module.load_state_dict(state)
    prepared.plan.export()
    trainer = build_trainer(job.config.trainer, 1, phase_folder(job, prepared, last), lambda *_: None)
    loaders = prepared.loaders
    cached = cache.for_test(trainer.strategy.root_device, trainer.precision_plugin.forward_context)
    if cached is not None:
        module.cut, loaders = cached.cut, loaders.with_features(cached.features)
    trainer.test(module, loaders, verbose=False)
    labels = prepared.data.test.labels
    logits = gather(module.tested, len(labels))
    check_finite(logits)
    if tracker is not None:
        recording.keep_predictions(prepared, tracker, logits, job.output_dir)
        tracker.set_tags({"device": device_description(trainer)})
    best = {"best/val_acc": fitted.best.accuracy, "best/epoch": float(fitted.best.epoch)}
    return {**compute_test_metrics(logits, labels), **best}
