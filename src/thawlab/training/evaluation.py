"""Test metrics from the logits of every test sample, gathered from all processes."""

from collections.abc import Sequence

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassStatScores

from thawlab.config.divergence import DivergedError
from thawlab.data import process_group
from thawlab.data.datamodule import ImageDataModule
from thawlab.metrics import METRICS
from thawlab.training.base import ImageClassifier


class BalancedAccuracy(MulticlassStatScores):
    """Mean recall over the classes that occur (torchmetrics' own also counts those that are only predicted)."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes, average=None, validate_args=False)

    def compute(self) -> Tensor:
        counts = super().compute()  # (classes, 5): true positives first, images of the class last
        return mean_recall(counts[:, 0], counts[:, -1])


def mean_recall(correct: Tensor, images: Tensor) -> Tensor:
    """Balanced accuracy, from how many images of each class are right and how many there are; classes come last."""
    occurs = images > 0
    return torch.where(occurs, correct / images.clamp(min=1), 0.0).sum(-1) / occurs.sum(-1)


def predict_test_set(module: ImageClassifier, trainer: pl.Trainer, loaders: ImageDataModule, images: int) -> np.ndarray:
    """Test a network once on every one of so many test images: logits (images, classes), sorted by position.

    Raises:
        DivergedError: some are not finite.
    """
    trainer.test(module, loaders, verbose=False)
    logits = gather(module.tested, images)
    check_finite(logits)
    return logits


def gather(parts: Sequence[tuple[np.ndarray, np.ndarray]], size: int) -> np.ndarray:
    """Bring the tested batches of all processes together.

    Args:
        parts: positions (B,) and logits (B, classes) of each batch that this process tested.
        size: samples in the test split.

    Returns:
        Logits (size, classes), sorted by position.

    Raises:
        RuntimeError: unless every sample was tested exactly once over all processes.
    """
    batches = [batch for process in process_group.gather(list(parts)) for batch in process]
    positions = np.concatenate([each for each, _ in batches])
    logits = np.concatenate([each for _, each in batches])
    if len(positions) != size or not np.array_equal(np.sort(positions), np.arange(size)):
        raise RuntimeError(
            f"tested {len(positions)} samples, {len(np.unique(positions))} of them different; the split has {size}"
        )
    return logits[np.argsort(positions)]


def check_finite(logits: np.ndarray) -> None:
    """Numbers from logits (N, classes) that are not finite would say nothing, and look as if they did.

    Raises:
        DivergedError: some are not.
    """
    odd = int((~np.isfinite(logits)).any(axis=1).sum())
    if odd:
        raise DivergedError(
            f"what the network says of {odd:,} of {len(logits):,} test images is not finite (NaN or infinite); use a "
            "smaller optimizer.lr, or trainer.precision=32, and look at the images",
            "the test",
        )


def compute_test_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """All metrics by their MLflow names, from logits (N, classes) and labels (N,), which are class indices."""
    scores, target = torch.from_numpy(logits), torch.from_numpy(labels)  # (N, C), (N,)
    known = {name: metric for name, metric in METRICS.items() if scores.shape[1] >= metric.least_classes}
    return {name: float(metric.from_logits(scores, target)) for name, metric in known.items()}
