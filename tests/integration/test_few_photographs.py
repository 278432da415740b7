"""Small data by the defaults: what a run reports is what its network can do, and depths are ranked by it."""

import functools
import math
import statistics
from pathlib import Path
from typing import Any

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image, ImageDraw

from thawlab.launch.compose import compose
from thawlab.training import fit
from thawlab.training.preparation import prepare

SEEDS = range(10)
LEAVES = {"round": (1.0, 0), "long": (0.35, 0), "lobed": (0.8, 5)}  # width by height, lobes
COUNTS = {"train": (13, 12, 12), "test": (5, 5, 5)}


def leaf(rng: np.random.Generator, ratio: float, lobes: int) -> Image.Image:
    """A leaf of some green on some ground, anywhere, turned anyhow, 96 × 96 pixels."""
    image = Image.new("RGB", (96, 96), tuple(rng.integers(150, 240, 3).tolist()))
    angle, size = rng.uniform(0, 2 * math.pi), rng.uniform(26, 40)
    middle = rng.uniform(42, 54, 2)
    outline = []
    for turn in np.linspace(0, 2 * math.pi, 120):
        radius = size * (1 + (0.3 * math.cos(lobes * turn) if lobes else 0))
        x, y = radius * math.cos(turn) * ratio, radius * math.sin(turn)
        outline.append(
            (
                middle[0] + x * math.cos(angle) - y * math.sin(angle),
                middle[1] + x * math.sin(angle) + y * math.cos(angle),
            )
        )
    green = (int(rng.integers(20, 90)), int(rng.integers(90, 160)), int(rng.integers(20, 80)))
    ImageDraw.Draw(image).polygon(outline, fill=green)
    noise = rng.normal(0, 8, (96, 96, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """37 images to train in three classes, of which the tool takes three to validate, and 15 to test."""
    root, rng = tmp_path_factory.mktemp("leaves"), np.random.default_rng(0)
    for part, counts in COUNTS.items():
        for (name, shape), count in zip(LEAVES.items(), counts, strict=True):
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                leaf(rng, *shape).save(root / part / name / f"{index}.png")
    return root


class TestAccuracies(pl.Callback):
    """The accuracy on the test images after each epoch, which no run looks at."""

    __test__ = False

    def __init__(self, batches: list[Any]) -> None:
        self.batches, self.found = batches, list[float]()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        modes = {module: module.training for module in pl_module.modules()}
        pl_module.eval()
        with torch.no_grad():
            right = [(pl_module(images).argmax(1) == labels).float() for images, labels, _ in self.batches]
        for module, training in modes.items():
            module.training = training
        self.found.append(float(torch.cat(right).mean()))


def reported_and_best(photographs: Path, folder: Path, freeze: str, seed: int, monkeypatch) -> tuple[float, float]:
    """Test accuracy of the epoch that is kept, and that of the best epoch."""
    settings = ["dataset=folder", f"dataset.root={photographs}", "image_size=64", "trainer=cpu", "trainer.workers=0"]
    job = compose([*settings, "cache=off", f"freeze={freeze}", f"seed={seed}"], "train.py")
    assert job is not None
    prepared = prepare(job.config)
    assert [len(split) for split in (prepared.data.train, prepared.data.val, prepared.data.test)] == [34, 3, 15]
    watch = TestAccuracies(list(prepared.loaders.test_dataloader()))
    build = fit.build_trainer

    @functools.wraps(build)
    def watched(*arguments: Any, **options: Any) -> pl.Trainer:
        trainer = build(*arguments, **options)
        trainer.callbacks.append(watch)  # type: ignore[attr-defined]
        return trainer

    monkeypatch.setattr(fit, "build_trainer", watched)
    kept = fit.fit(job.config, prepared, folder).best
    monkeypatch.undo()
    assert len(watch.found) == 5
    return watch.found[kept.epoch], max(watch.found)


@pytest.mark.slow
def test_37_images_report_what_the_best_epoch_can_do_at_every_depth(photographs, tmp_path, monkeypatch):
    reported: dict[str, float] = {}
    for freeze in ("0", "4", "all"):
        pairs = [
            reported_and_best(photographs, tmp_path / f"{freeze}-{seed}", freeze, seed, monkeypatch) for seed in SEEDS
        ]
        reported[freeze] = statistics.mean(pair[0] for pair in pairs)
        best = statistics.mean(pair[1] for pair in pairs)
        print(f"freeze={freeze}: reported {reported[freeze]:.3f}, best epoch {best:.3f}")
        assert reported[freeze] >= best - 0.03
        assert reported[freeze] >= 0.9  # they are easy
    assert max(reported.values()) - min(reported.values()) <= 0.05  # no depth seems to be far ahead
