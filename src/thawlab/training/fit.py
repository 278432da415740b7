"""Fitting the phases one after the other: each is a fit of its own, audited at its end, and done once over resumes."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch

from thawlab.backbones import freezing
from thawlab.config.schema import Config
from thawlab.config.small_data import Rule, rule_for
from thawlab.data.datamodule import ImageDataModule
from thawlab.data.process_group import gather, rank_and_size
from thawlab.system.process_rank import process_rank
from thawlab.training.base import ImageClassifier
from thawlab.training.best_epoch import Best, rank
from thawlab.training.cache.feature_cache import FeatureCache
from thawlab.training.checkpoints import Resumable, resumable
from thawlab.training.evaluation import predict_test_set
from thawlab.training.events import Events
from thawlab.training.feature_steps import steps_at_once
from thawlab.training.outcome import Tested
from thawlab.training.phase_module import phase_module, start_regularisers, trainer_settings
from thawlab.training.phase_records import FittedPhase, end_as_trained, recorded, restored
from thawlab.training.planning import reinitialise_parameters
from thawlab.training.preparation import GRADIENT_IMAGES, Prepared, phase_seed
from thawlab.training.relative_lr import RelativeRates
from thawlab.training.trainer import CheckpointFacts, build_trainer, device_description, size_and_memory


@dataclass(frozen=True, eq=False)
class NetworkFit:
    """The phases of one network, to be trained.

    Attributes:
        config: how.
        prepared: the network, its images and phases.
        folder: for checkpoints.
        events: is told what happens.
        cache: stored activations.
        run_id: of the MLflow run, written into the checkpoints.
        resume: go on with what the folder holds.
    """

    config: Config
    prepared: Prepared
    folder: Path
    events: Events
    cache: FeatureCache
    run_id: str
    resume: bool

    def fit(self) -> "Fitted":
        """Train the phases; those that an interrupted run has done are taken from its folder."""
        phases = self.prepared.phases
        done: list[FittedPhase] = []
        for index, phase in enumerate(phases):
            if len(phases) > 1:
                self.events.phase_begins(index + 1, len(phases), phase.name)
            done.append(self._fit_phase(index, first_epoch=sum(each.epochs for each in done)))
        candidates = [each.best for each, phase in zip(done, phases, strict=True) if phase.selectable]
        best = max(candidates, key=lambda each: rank(self.rule, each))
        return Fitted(best, max(each.audited for each in done), self._cost(done), self)

    @property
    def rule(self) -> Rule:
        """Which epoch is the best one."""
        return rule_for(self.config.trainer.select, len(self.prepared.data.val))

    def phase_folder(self, index: int) -> Path:
        """Where a phase keeps its checkpoints."""
        return self.folder / "checkpoints" / f"{index}_{self.prepared.phases[index].name}"

    def _cost(self, done: Sequence[FittedPhase]) -> dict[str, float]:
        trained = frozenset().union(*(phase.parameters for phase in self.prepared.phases))
        training_seconds = sum(each.training_seconds for each in done)
        return {
            "cost/fit_seconds": sum(each.seconds for each in done),
            "cost/images_per_second": sum(each.images for each in done) / max(training_seconds, 1e-9),
            **size_and_memory(self.prepared.network.model, trained),
        }

    def _fit_phase(self, index: int, first_epoch: int) -> FittedPhase:
        """One fit with a fixed set of trainable parameters, audited at its end."""
        config, model, phase = self.config, self.prepared.network.model, self.prepared.phases[index]
        folder = self.phase_folder(index)
        if index:  # the first one's are drawn before it is planned
            reinitialise_parameters(self.prepared.network, phase.draw, config.seed, f"phase {index}")
        freezing.train_only(model, phase.parameters)
        model.train()  # Lightning leaves the modes as the phase before left them
        found = Resumable(None)
        if self.resume:
            done = restored(folder, model)
            if done is not None:
                return done
            found = resumable(folder)
            if found.damaged:
                self._begin_later_phases_anew(index, found)
        before = freezing.digests(freezing.frozen_state(model, phase.batch_norm))
        loaders = self.prepared.loaders.for_phase(phase_seed(config.seed, index), augmented=phase.logistic is None)
        relative = [RelativeRates(lambda: loaders.plain_batches(GRADIENT_IMAGES))]
        trainer = self._trainer(index, first_epoch, relative if phase.rates == "relative_gradients" else [])
        with self._ready(index, trainer, loaders) as (module, batches):
            module.first_epoch = first_epoch
            trainer.fit(module, batches, ckpt_path=found.checkpoint, weights_only=True)
        if found.checkpoint is not None:
            end_as_trained(trainer, model, found.checkpoint)
        audited = freezing.audit(model, before, phase.batch_norm)
        _check_ranks(model)
        return recorded(folder, trainer, first_epoch, audited)

    def _trainer(self, index: int, first_epoch: int, beside: Sequence[pl.Callback]) -> pl.Trainer:
        phase, total = self.prepared.phases[index], sum(each.epochs for each in self.prepared.phases)

        def on_epoch(epoch: int, metrics: Mapping[str, float]) -> None:
            logged = {name: value for name, value in metrics.items() if "/" in name}
            self.events.epoch_ends(epoch, total, [{**logged, "phase": float(index + 1)}], metrics["seconds"])

        facts = CheckpointFacts(
            self.run_id, phase.name, index + 1, first_epoch, tuple(group.name for group in phase.groups)
        )
        settings = trainer_settings(self.config.trainer, phase)
        return build_trainer(settings, phase.epochs, self.phase_folder(index), on_epoch, facts, self.rule, beside)

    @contextmanager
    def _ready(
        self, index: int, trainer: pl.Trainer, loaders: ImageDataModule
    ) -> Iterator[tuple[ImageClassifier, ImageDataModule]]:
        """The module of a phase, and the batches that it trains on: images, or their stored activations."""
        config, model, phase = self.config, self.prepared.network.model, self.prepared.phases[index]
        if config.trainer.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        context = trainer.precision_plugin.forward_context
        cached = self.cache.for_phase(index, loaders, trainer.strategy.root_device, context)
        model.train()
        regularisers = start_regularisers(self.prepared, phase, trainer.strategy.root_device, self.events)
        if config.trainer.compile:
            model.compile()  # in place: a wrapper would rename everything in the state_dict
        at_once = 1
        if cached is not None:
            if not regularisers and phase.logistic is None:
                at_once = steps_at_once(trainer, cached.features["train"], config.batch_size)
            loaders = loaders.with_features(cached.features, at_once)
        if at_once > 1:
            trainer.gradient_clip_val = None  # the module clips the steps that it takes
        features = loaders.features["train"] if at_once > 1 else None
        module = phase_module(config, self.prepared, index, regularisers, features, self.events)
        if cached is not None:
            module.cut = cached.cut
        try:
            yield module, loaders
        finally:
            for regulariser in regularisers:
                regulariser.close()

    def _begin_later_phases_anew(self, index: int, found: Resumable) -> None:
        """What later phases have kept began with the network of a phase that is now trained once more."""
        start = f"it goes on from {found.checkpoint.name}" if found.checkpoint else "the phase begins anew"
        self.events.note(f"damaged in {self.phase_folder(index)}: {', '.join(found.damaged)}; {start}")
        if process_rank() == 0:
            for later in range(index + 1, len(self.prepared.phases)):
                shutil.rmtree(self.phase_folder(later), ignore_errors=True)


@dataclass(frozen=True, eq=False)
class Fitted:
    """What training left behind: the network as the last phase ended, and where it was best."""

    best: Best
    audited: int
    cost: Mapping[str, float]
    of: NetworkFit
    history: None = None

    def test(self) -> Tested:
        config, prepared = self.of.config, self.of.prepared
        last = len(prepared.phases) - 1
        module = phase_module(config, prepared, last)
        module.load_state_dict(torch.load(self.best.checkpoint, map_location="cpu", weights_only=True)["state_dict"])
        prepared.plan.export()
        trainer = build_trainer(config.trainer, 1, self.of.phase_folder(last), lambda *_: None)
        loaders = prepared.loaders
        cached = self.of.cache.for_test(trainer.strategy.root_device, trainer.precision_plugin.forward_context)
        if cached is not None:
            module.cut, loaders = cached.cut, loaders.with_features(cached.features)
        logits = predict_test_set(module, trainer, loaders, len(prepared.data.test))
        return Tested(logits, {**self.cost, **self.of.cache.totals.metrics()}, device_description(trainer))


def fit(
    config: Config,
    prepared: Prepared,
    folder: Path,
    events: Events | None = None,
    *,
    cache: FeatureCache | None = None,
    run_id: str = "",
    resume: bool = False,
) -> Fitted:
    """Train the phases of the prepared network; arguments as those of `NetworkFit`.

    Raises:
        ConfigError: a phase cannot be cached, and `cache=require`.
        DivergedError: a loss is not finite.
        FrozenMovedError: something frozen changed.
    """
    events = events or Events()
    cache = cache or FeatureCache(config, prepared, events)
    return NetworkFit(config, prepared, folder, events, cache, run_id, resume).fit()


def _check_ranks(model: torch.nn.Module) -> None:
    """All processes must hold the same parameters at the end of a phase."""
    if rank_and_size()[1] == 1:
        return
    digests = gather(freezing.digest_of(dict(model.named_parameters())))
    if len(set(digests)) != 1:
        raise RuntimeError(f"the processes ended with different parameters: {digests}")
