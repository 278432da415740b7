"""Fitting the phases one after the other: each is a fit of its own, audited at its end, and done once over resumes."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch

from thawlab import console
from thawlab.backbones import freezing
from thawlab.config.job import Job
from thawlab.config.schema import Trainer as TrainerSettings
from thawlab.config.schema import name_of
from thawlab.data.feature_dataset import FeatureSet
from thawlab.data.process_group import gather, rank_and_size
from thawlab.strategies.phases import Phase, Schedule
from thawlab.strategies.regularisers.contract import REGULARISERS, PhaseStart, Regulariser
from thawlab.system.process_rank import process_rank
from thawlab.tracking.run import Run
from thawlab.training.base import ImageClassifier
from thawlab.training.best_epoch import Best, rank, rule_for
from thawlab.training.cache.feature_cache import FeatureCache
from thawlab.training.checkpoints import Resumable, resumable
from thawlab.training.classifier import Classifier, Recipe
from thawlab.training.feature_steps import SeveralSteps, steps_at_once
from thawlab.training.logistic_probe import LogisticProbe
from thawlab.training.phase_records import FittedPhase, end_as_trained, recorded, restored
from thawlab.training.planning import reinitialise_parameters
from thawlab.training.preparation import GRADIENT_IMAGES, Prepared, phase_seed
from thawlab.training.relative_lr import RelativeRates
from thawlab.training.trainer import CheckpointFacts, EpochReport, build_trainer, peak_memory_mb


@dataclass(frozen=True)
class Fitted:
    """What training left behind: the network as the last phase ended, and where it was best."""

    best: Best
    audited: int  # frozen tensors that were compared, in the phase that had most
    cost: dict[str, float]


def fit(job: Job, prepared: Prepared, tracker: Run | None, cache: FeatureCache | None = None) -> Fitted:
    """Train the phases; those that an interrupted run has done are taken from its folder."""
    cache = cache or FeatureCache(job.config, prepared)
    total = sum(phase.epochs for phase in prepared.phases)
    done: list[FittedPhase] = []
    for index, phase in enumerate(prepared.phases):

        def on_epoch(epoch: int, metrics: Mapping[str, float], number: int = index + 1) -> None:
            if tracker is not None:
                console.show_epoch(epoch, total, metrics)
                logged = {name: value for name, value in metrics.items() if "/" in name}
                tracker.log_metrics({**logged, "phase": float(number)}, step=epoch)

        if len(prepared.phases) > 1 and tracker is not None:
            console.show_phase(index + 1, len(prepared.phases), phase.name)
        first_epoch = sum(each.epochs for each in done)
        done.append(_fit_phase(job, prepared, cache, index, first_epoch, on_epoch, tracker.id if tracker else ""))
    candidates = [each.best for each, phase in zip(done, prepared.phases, strict=True) if phase.selectable]
    rule = rule_for(job.config.trainer.select, len(prepared.data.val))
    best = max(candidates, key=lambda each: rank(rule, each))
    return Fitted(best, max(each.audited for each in done), _cost(prepared, done))


def _cost(prepared: Prepared, done: list[FittedPhase]) -> dict[str, float]:
    sizes = {name: parameter.numel() for name, parameter in prepared.network.model.named_parameters()}
    trained = frozenset().union(*(phase.parameters for phase in prepared.phases))
    training_seconds = sum(each.training_seconds for each in done)
    return {
        "cost/fit_seconds": sum(each.seconds for each in done),
        "cost/images_per_second": sum(each.images for each in done) / max(training_seconds, 1e-9),
        "cost/peak_memory_mb": peak_memory_mb(),
        "cost/trainable_params": float(sum(sizes[name] for name in trained)),
        "cost/total_params": float(sum(sizes.values())),
    }


def phase_folder(job: Job, prepared: Prepared, index: int) -> Path:
    """Where a phase keeps its checkpoints."""
    return job.output_dir / "checkpoints" / f"{index}_{prepared.phases[index].name}"


def _fit_phase(
    job: Job,
    prepared: Prepared,
    cache: FeatureCache,
    index: int,
    first_epoch: int,
    on_epoch: EpochReport,
    run_id: str,
) -> FittedPhase:
    """One fit with a fixed set of trainable parameters, audited at its end."""
    config, model, phase = job.config, prepared.network.model, prepared.phases[index]
    folder = phase_folder(job, prepared, index)
    if index:  # the first one's are drawn before it is planned
        reinitialise_parameters(prepared.network, phase.draw, config.seed, f"phase {index}")
    freezing.train_only(model, phase.parameters)
    model.train()  # Lightning leaves the modes as the phase before left them
    found = Resumable(None)
    if job.resume_id:
        done = restored(folder, model)
        if done is not None:
            return done
        found = resumable(folder)
        if found.damaged:
            _begin_later_phases_anew(job, prepared, index, found)
    before = freezing.digests(freezing.frozen_state(model, phase.batch_norm))
    loaders = prepared.loaders.for_phase(phase_seed(config.seed, index), augmented=phase.logistic is None)
    facts = CheckpointFacts(run_id, phase.name, index + 1, first_epoch, tuple(group.name for group in phase.groups))
    rule = rule_for(config.trainer.select, len(prepared.data.val))
    trainer = build_trainer(_settings(config.trainer, phase), phase.epochs, folder, on_epoch, facts, rule)
    if phase.rates == "relative_gradients":
        batches = loaders.plain_batches
        trainer.callbacks.append(RelativeRates(lambda: batches(GRADIENT_IMAGES)))  # type: ignore[attr-defined]
    if config.trainer.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    cached = cache.for_phase(index, loaders, trainer.strategy.root_device, trainer.precision_plugin.forward_context)
    model.train()
    regularisers = _regularisers(prepared, phase, trainer)
    if config.trainer.compile:
        model.compile()  # in place: a wrapper would rename everything in the state_dict
    at_once = 1
    if cached is not None:
        if not regularisers and phase.logistic is None:
            at_once = steps_at_once(trainer, cached.features["train"], config.batch_size)
        loaders = loaders.with_features(cached.features, at_once)
    if at_once > 1:
        trainer.gradient_clip_val = None  # the module clips the steps that it takes
    module = classifier(job, prepared, index, regularisers, loaders.features["train"] if at_once > 1 else None)
    module.first_epoch = first_epoch
    if cached is not None:
        module.cut = cached.cut
    try:
        trainer.fit(module, loaders, ckpt_path=found.checkpoint, weights_only=True)
    finally:
        for regulariser in regularisers:
            regulariser.close()
    if found.checkpoint is not None:
        end_as_trained(trainer, model, found.checkpoint)
    audited = freezing.audit(model, before, phase.batch_norm)
    _check_ranks(model)
    return recorded(folder, trainer, first_epoch, audited)


def _begin_later_phases_anew(job: Job, prepared: Prepared, index: int, found: Resumable) -> None:
    """What later phases have kept began with the network of a phase that is now trained once more."""
    if process_rank():
        return
    folder = phase_folder(job, prepared, index)
    start = f"it goes on from {found.checkpoint.name}" if found.checkpoint else "the phase begins anew"
    console.show_note(f"damaged in {folder}: {', '.join(found.damaged)}; {start}")
    for later in range(index + 1, len(prepared.phases)):
        shutil.rmtree(phase_folder(job, prepared, later), ignore_errors=True)


def classifier(
    job: Job,
    prepared: Prepared,
    index: int,
    regularisers: tuple[Regulariser, ...] = (),
    features: FeatureSet | None = None,
) -> ImageClassifier:
    """The LightningModule of a phase; with features it takes several steps a batch."""
    config, phase, model = job.config, prepared.phases[index], prepared.network.model
    classes, channels_last = len(prepared.data.classes), bool(config.trainer.channels_last)
    if phase.logistic is not None:
        rule = rule_for(config.trainer.select, len(prepared.data.val))
        return LogisticProbe(model, classes, phase, channels_last, rule)
    recipe = Recipe(
        optimizer=config.optimizer.name,
        lr=config.optimizer.lr,
        weight_decay=config.optimizer.weight_decay,
        options=config.optimizer.options,
        schedule=Schedule(config.scheduler.name, config.scheduler.warmup, config.scheduler.final),
        label_smoothing=config.label_smoothing,
        mixup=config.augment.mixup,
        cutmix=config.augment.cutmix,
        seed=phase_seed(config.seed, index),
        channels_last=channels_last,
    )
    if features is not None:
        return SeveralSteps(model, classes, phase, recipe, features, config.batch_size, config.trainer.clip)
    return Classifier(model, classes, phase, recipe, regularisers)


def _settings(settings: TrainerSettings, phase: Phase) -> TrainerSettings:
    """A phase that solves for its head has no steps to accumulate, clip, average or stop."""
    if phase.logistic is None:
        return settings
    return settings.model_copy(update={"accumulate": 1, "clip": None, "ema": None, "patience": None})


def _regularisers(prepared: Prepared, phase: Phase, trainer: pl.Trainer) -> tuple[Regulariser, ...]:
    """The terms that a phase adds to its loss, made from the network as the phase begins."""
    if not phase.regularisers:
        return ()
    device = trainer.strategy.root_device
    model = prepared.network.model.to(device)
    made = []
    for settings in phase.regularisers:
        name = name_of(settings)
        start = PhaseStart(
            model,
            prepared.layers,
            device,
            len(prepared.data.classes),
            prepared.network.source_classifier,
            prepared.loaders.plain_batches,
            name,
        )
        made.append(REGULARISERS.load(name).create(settings, start))
    return tuple(made)


def _check_ranks(model: torch.nn.Module) -> None:
    """All processes must hold the same parameters at the end of a phase."""
    if rank_and_size()[1] == 1:
        return
    digests = gather(freezing.digest_of(dict(model.named_parameters())))
    if len(set(digests)) != 1:
        raise RuntimeError(f"the processes ended with different parameters: {digests}")
