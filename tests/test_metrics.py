"""Metrics under weights: equal to sklearn's, and to a literal repetition of the samples."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as reference

from thawlab.metrics import METRICS, Predictions

CLASSES = 8
SKLEARN = {
    "test/acc": lambda run: reference.accuracy_score(run.labels, run.predicted),
    "test/acc_top5": lambda run: reference.top_k_accuracy_score(
        run.labels, run.probabilities, k=5, labels=np.arange(CLASSES)
    ),
    "test/balanced_acc": lambda run: reference.recall_score(
        run.labels, run.predicted, labels=np.unique(run.labels), average="macro"
    ),
    "test/f1_macro": lambda run: reference.f1_score(run.labels, run.predicted, average="macro"),
    "test/loss": lambda run: reference.log_loss(run.labels, run.probabilities, labels=np.arange(CLASSES)),
}


def predictions(samples: int = 60, seed: int = 0, missing: int | None = None) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = np.random.default_rng(99).integers(CLASSES, size=samples)
    if missing is not None:
        labels[labels == missing] = (missing + 1) % CLASSES
    probabilities = rng.dirichlet(np.ones(CLASSES), size=samples) / 2 + np.eye(CLASSES)[labels] * rng.random(
        (samples, 1)
    )
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return Predictions(labels, probabilities.argmax(axis=1), probabilities)


def repeated(run: Predictions, counts: np.ndarray) -> Predictions:
    assert run.probabilities is not None
    return Predictions(*(np.repeat(each, counts, axis=0) for each in (run.labels, run.predicted, run.probabilities)))


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("missing", [None, 3])
def test_without_weights_a_metric_is_what_sklearn_says_a_class_without_samples_left_out(name, missing):
    runs = [predictions(seed=seed, missing=missing) for seed in range(3)]
    found = METRICS[name].of(runs, np.ones((60, 1)))
    np.testing.assert_allclose(found[:, 0], [SKLEARN[name](run) for run in runs], rtol=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_a_weight_is_as_good_as_a_repetition(name):
    run, rng = predictions(), np.random.default_rng(1)
    counts = rng.integers(0, 3, size=(60, 4))
    counts[run.labels == 2, 0] = 0  # a resample without one class
    found = METRICS[name].of([run], counts.astype(np.float64))[0]
    expected = [SKLEARN[name](repeated(run, column)) for column in counts.T]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_probability_of_zero_is_no_infinite_loss():
    run = Predictions(np.array([0, 1]), np.array([0, 0]), np.array([[1.0, 0.0], [1.0, 0.0]], dtype=np.float32))
    found = METRICS["test/loss"].of([run], np.ones((2, 1)))
    np.testing.assert_allclose(found, [[-np.log(np.finfo(np.float32).eps) / 2]], rtol=1e-6)


def test_the_loss_needs_probabilities():
    with pytest.raises(ValueError, match="needs the probabilities of each class"):
        METRICS["test/loss"].of([replace(predictions(), probabilities=None)], np.ones((60, 1)))
