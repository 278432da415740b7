"""What the benchmarks share: real configurations, fits in this process that are timed step by step, fair ratios."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ProgressBar
from rich.console import Console

from thawlab import console as report
from thawlab.backbones import freezing
from thawlab.config.job import Job
from thawlab.config.schema import Config
from thawlab.data.images import ImageData, Split
from thawlab.launch.compose import compose
from thawlab.training import fit as fitting
from thawlab.training import preparation
from thawlab.training.cache.feature_cache import Cached, FeatureCache
from thawlab.training.cache.filling import Context
from thawlab.training.preparation import Prepared
from thawlab.training.trainer import build_trainer

console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


@dataclass(frozen=True)
class Settings:
    """What is measured on what.

    Attributes:
        arguments: of the configuration, `key=value` each.
        data: what the images are called in the results.
        quick: fewer depths, rounds and epochs.
        smoke: as few as it takes to see that a benchmark runs; its numbers mean nothing.
        scratch: a folder for checkpoints and caches.
    """

    arguments: tuple[str, ...]
    data: str
    quick: bool
    smoke: bool
    scratch: Path

    def job(self, *more: str) -> Job:
        """A job with these settings, and no random changes to images unless it says so."""
        given = ["augment=none", *self.arguments, *more, f"hydra.run.dir={self.folder('hydra')}"]
        job = compose(given, "bench.py")
        assert job is not None
        return replace(job, output_dir=self.folder("fit"))

    def again(self, job: Job) -> Job:
        """The same job in another folder."""
        return replace(job, output_dir=self.folder("fit"))

    def folder(self, name: str) -> Path:
        """A folder of its own."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        made = self.scratch / f"{len(list(self.scratch.iterdir()))}_{name}"
        made.mkdir()
        return made

    def chosen(self, full: Any, quick: Any, smoke: Any) -> Any:
        """One of three values."""
        return smoke if self.smoke else quick if self.quick else full


@dataclass(frozen=True)
class Table:
    """Results for people: rows of text below a title."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def say(text: str) -> None:
    """Tell how far a benchmark is."""
    console.print(f"[dim]{time.strftime('%H:%M:%S')}[/]  {text}")


def load_data(settings: Settings) -> ImageData:
    """The images; a handful where a benchmark is only to be seen running."""
    data = preparation.load_data(settings.job().config)
    return subset(data, 48, 20) if settings.smoke else data


@dataclass(frozen=True)
class _Picked:
    """Some images of a split, by position; `read` of another split."""

    read: Callable[[int], Any]
    positions: tuple[int, ...]

    def __call__(self, position: int) -> Any:
        return self.read(self.positions[position])


def subset(data: ImageData, train: int, val: int) -> ImageData:
    """So many images; more than there are come again and again."""

    def picked(split: Split, count: int) -> Split:
        positions = np.resize(np.random.default_rng(0).permutation(len(split)), count)
        return Split(
            ids=tuple(f"{number}/{split.ids[position]}" for number, position in enumerate(positions)),
            paths=tuple(split.paths[position] for position in positions),
            labels=split.labels[positions],
            read=_Picked(split.read, tuple(positions.tolist())),
        )

    splits = {"train": picked(data.train, train), "val": picked(data.val, val)}
    return replace(data, **splits, digest=f"{data.digest[:16]}{train:08d}{val:08d}")


def prepare(config: Config, data: ImageData) -> Prepared:
    """Network and plan of a run on images that are there already."""
    with patch.object(preparation, "load_data", lambda _: data):
        return preparation.prepare(config)


def with_cache(job: Job, name: str, **changes: Any) -> Job:
    """The job with another setting of its cache."""
    cache = job.config.cache.model_copy(update={"name": name, **changes})
    return replace(job, config=job.config.model_copy(update={"cache": cache}))


@dataclass
class Watch(pl.Callback):
    """Notes when the steps of each epoch end.

    Attributes:
        limit: at most so many training steps, and one of validation; None = all.
        epochs: of each its beginning, then the end of each step.
        ends: of each when it was complete, checkpoints and validation included.
        images: trained on in each step of the last epoch.
    """

    limit: int | None = None
    epochs: list[list[float]] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    images: list[int] = field(default_factory=list)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        wait_for_device()
        now = time.perf_counter()
        if self.epochs:
            self.ends.append(now)
        self.epochs.append([now])
        self.images = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx + 1 == trainer.num_training_batches:
            wait_for_device()
        self.images.append(len(batch[1]))
        self.epochs[-1].append(time.perf_counter())

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        wait_for_device()
        self.ends.append(time.perf_counter())

    def speed(self, warm_epochs: int = 1, warm_steps: int = 0) -> float:
        """Images a second in training steps, without the first epochs, and the first steps of each."""
        first = min(warm_steps, len(self.images) - 1)  # several steps may be one batch, and that the only one
        seconds = sum(epoch[-1] - epoch[first] for epoch in self.epochs[warm_epochs:])
        return sum(self.images[first:]) * (len(self.epochs) - warm_epochs) / seconds

    def between(self) -> float:
        """Seconds from the last step of an epoch to the first of the next: validation, checkpoints (median)."""
        return statistics.median(end - epoch[-1] for epoch, end in zip(self.epochs, self.ends, strict=True))


@dataclass(frozen=True)
class Timed:
    """A fit that was timed."""

    cost: Mapping[str, float]
    cache: FeatureCache
    watch: Watch
    wall: float  # seconds of all of it, the audit included

    @property
    def seconds(self) -> float:
        """In epochs and in the cache, as the run would log it."""
        return self.cost["cost/fit_seconds"] + self.cache.totals.seconds


def fit(job: Job, prepared: Prepared, limit: int | None = None) -> Timed:
    """Fit as a run does, without recording it and without a progress bar, which costs time of its own."""
    watch = Watch(limit)

    def watched(*args: Any, **kwargs: Any) -> pl.Trainer:
        trainer = build_trainer(*args, **kwargs)
        bars = [each for each in trainer.callbacks if isinstance(each, ProgressBar)]  # type: ignore[attr-defined]
        for bar in bars:
            bar.disable()
        trainer.callbacks.append(watch)  # type: ignore[attr-defined]
        if limit is not None:
            trainer.limit_train_batches, trainer.limit_val_batches = limit, 1
        return trainer

    cache = FeatureCache(job.config, prepared)
    with patch.object(fitting, "build_trainer", watched), quiet():
        begun = time.perf_counter()
        fitted = fitting.fit(job.config, prepared, job.output_dir, cache=cache)
        return Timed(fitted.cost, cache, watch, time.perf_counter() - begun)


def place(config: Config) -> tuple[torch.device, Context]:
    """Where a run trains, and what its forward passes run in."""
    trainer = build_trainer(config.trainer, 1, Path("unused"), lambda *_: None)
    return trainer.strategy.root_device, trainer.precision_plugin.forward_context


def opened(job: Job, prepared: Prepared) -> tuple[Cached, FeatureCache]:
    """The stored activations of the first phase, computed if they are missing."""
    config, model = job.config, prepared.network.model
    freezing.train_only(model, prepared.phases[0].parameters)
    if config.trainer.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    cache = FeatureCache(config, prepared)
    found = cache.for_phase(0, prepared.loaders, *place(config))
    assert found is not None
    return found, cache


@contextmanager
def quiet() -> Iterator[None]:
    """What a run says in the terminal, left out."""
    before, report.terminal.quiet = report.terminal.quiet, True
    try:
        yield
    finally:
        report.terminal.quiet = before


def wait_for_device() -> None:
    """What a GPU has been given is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def alternately(acts: Mapping[str, Callable[[], float]], rounds: int, what: str) -> dict[str, list[float]]:
    """Do all in turn, forwards and backwards (A B, B A, …), so that a slow moment of the machine hits all alike."""
    found: dict[str, list[float]] = {name: [] for name in acts}
    for number in range(rounds):
        for name in list(acts) if number % 2 == 0 else reversed(list(acts)):
            found[name].append(acts[name]())
        last = "  ".join(f"{name} {values[-1]:,.4g}" for name, values in found.items())
        say(f"{what}, round {number + 1}/{rounds}: {last}")
    return found


def ratio(over: Sequence[float], under: Sequence[float]) -> dict[str, float]:
    """The median of the rounds' ratios, with the lowest and the highest."""
    each = [one / other for one, other in zip(over, under, strict=True)]
    return {"median": statistics.median(each), "low": min(each), "high": max(each)}


def spread(found: Mapping[str, float], digits: int = 2) -> str:
    """A ratio for people: the median, and in brackets from the lowest to the highest round."""
    return f"{found['median']:.{digits}f} ({found['low']:.{digits}f}–{found['high']:.{digits}f})"


def slope(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """By which power a cost grows with a size: a straight line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])
