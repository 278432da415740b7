"""What a phase is trained with: its LightningModule, the terms of its loss, and the trainer's settings for it."""

import torch

from thawlab.config.schema import Config, name_of
from thawlab.config.schema import Trainer as TrainerSettings
from thawlab.config.small_data import rule_for
from thawlab.data.feature_dataset import FeatureSet
from thawlab.strategies.phases import Phase
from thawlab.strategies.regularisers.contract import REGULARISERS, PhaseStart, Regulariser
from thawlab.training.base import ImageClassifier
from thawlab.training.classifier import Classifier, Recipe
from thawlab.training.events import Events
from thawlab.training.feature_steps import SeveralSteps
from thawlab.training.logistic_probe import LogisticProbe
from thawlab.training.preparation import Prepared, phase_seed, schedule_of


def phase_module(
    config: Config,
    prepared: Prepared,
    index: int,
    regularisers: tuple[Regulariser, ...] = (),
    features: FeatureSet | None = None,
    events: Events | None = None,
) -> ImageClassifier:
    """The LightningModule of a phase; with features it takes several steps a batch."""
    phase, model = prepared.phases[index], prepared.network.model
    classes, channels_last = len(prepared.data.classes), bool(config.trainer.channels_last)
    if phase.logistic is not None:
        rule = rule_for(config.trainer.select, len(prepared.data.val))
        return LogisticProbe(model, classes, phase, channels_last, rule, (events or Events()).note)
    recipe = Recipe(
        optimizer=config.optimizer.name,
        lr=config.optimizer.lr,
        weight_decay=config.optimizer.weight_decay,
        options=config.optimizer.options,
        schedule=schedule_of(config),
        label_smoothing=config.label_smoothing,
        mixup=config.augment.mixup,
        cutmix=config.augment.cutmix,
        seed=phase_seed(config.seed, index),
        channels_last=channels_last,
    )
    if features is not None:
        return SeveralSteps(model, classes, phase, recipe, features, config.batch_size, config.trainer.clip)
    return Classifier(model, classes, phase, recipe, regularisers)


def start_regularisers(
    prepared: Prepared, phase: Phase, device: torch.device, events: Events
) -> tuple[Regulariser, ...]:
    """The terms that a phase adds to its loss, made from the network as the phase begins."""
    if not phase.regularisers:
        return ()
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
            events.progress,
        )
        made.append(REGULARISERS.load(name).create(settings, start))
    return tuple(made)


def trainer_settings(settings: TrainerSettings, phase: Phase) -> TrainerSettings:
    """A phase that solves for its head has no steps to accumulate, clip, average or stop."""
    if phase.logistic is None:
        return settings
    return settings.model_copy(update={"accumulate": 1, "clip": None, "ema": None, "patience": None})
