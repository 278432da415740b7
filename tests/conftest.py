"""A tiny data set, and a fit of a small network on it as a run does it."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import pytorch_lightning as pl
from timm.data.config import resolve_data_config
from torch import nn

from small_fits import CLASSES, SIZE, Fit, Fitter, trainer_settings
from thawlab.data.datamodule import ImageDataModule
from thawlab.data.decoding import ArrayReader
from thawlab.data.images import ImageData, Split
from thawlab.data.transforms import eval_transform
from thawlab.strategies.phases import Phase
from thawlab.training.classifier import Classifier, Recipe
from thawlab.training.trainer import build_trainer


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs from all tests but those that are for them: numbers and settings would be others there."""
    os.environ.setdefault("PYTHONSAFEPATH", "")  # commands set it, and tests start programs that lie beside each other
    if config.getoption("markexpr") != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(scope="session")
def tiny_data() -> ImageData:
    """Random images of 8 × 8 pixels, brighter from class to class: 10 to train, 6 to validate, 7 to test."""
    rng = np.random.default_rng(0)

    def split(part: str, size: int) -> Split:
        labels = np.arange(size, dtype=np.int64) % len(CLASSES)
        images = rng.integers(0, 120, (size, 8, 8)) + labels[:, None, None] * 60
        ids = tuple(f"{part}/{i}" for i in range(size))
        return Split(ids, ("",) * size, labels, ArrayReader(images.astype(np.uint8)))

    splits = {part: split(part, size) for part, size in (("train", 10), ("val", 6), ("test", 7))}
    return ImageData("tiny", CLASSES, **splits, digest="0" * 32, hflip=True, image_size=SIZE)


@pytest.fixture
def loaders(tiny_data: ImageData) -> Callable[..., ImageDataModule]:
    """The DataModule of the tiny images, prepared as the model expects them, in batches of 4."""

    def make(model: nn.Module, **changes: Any) -> ImageDataModule:
        transform = eval_transform(resolve_data_config({}, model=model), SIZE)
        settings = {"batch_size": 4, "eval_batch_size": 4, "workers": 0, "seed": 1, **changes}
        return ImageDataModule(tiny_data, transform, transform, **settings)

    return make


@pytest.fixture
def fit(tmp_path: Path, loaders: Callable[..., ImageDataModule]) -> Fitter:
    """Fit a phase by Lightning, as a run does: Classifier, DataModule and `build_trainer`."""

    def run(
        model: nn.Module,
        phase: Phase,
        recipe: Recipe,
        resume: Path | None = None,
        callbacks: tuple[pl.Callback, ...] = (),
        loading: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Fit:
        reports: list[tuple[int, dict[str, float]]] = []
        folder = settings.pop("folder", tmp_path / "checkpoints")
        rule = settings.pop("rule", "acc")
        module = Classifier(model, len(CLASSES), phase, recipe)
        trainer = build_trainer(
            trainer_settings(**settings),
            phase.epochs,
            folder,
            lambda epoch, row: reports.append((epoch, dict(row))),
            rule=rule,
        )
        trainer.callbacks[:0] = callbacks  # type: ignore[attr-defined]
        trainer.fit(module, loaders(model, **(loading or {})), ckpt_path=resume, weights_only=True)
        return Fit(module, trainer, reports)

    return run
