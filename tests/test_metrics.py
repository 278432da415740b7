"""Metrics: equal to sklearn's, under weights to a literal repetition of the samples; and how one is added."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as reference

from thawlab import metrics
from thawlab.compare.stats.bootstrap import score
from thawlab.compare.stats.intervals_and_tests import estimate
from thawlab.metrics import METRICS, Predictions, from_predictions
from thawlab.training.evaluation import compute_test_metrics

CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"
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
    "test/kappa": lambda run: reference.cohen_kappa_score(run.labels, run.predicted),
}


@pytest.fixture(autouse=True)
def example(monkeypatch: pytest.MonkeyPatch) -> None:
    """The metric that CONTRIBUTING.md adds at the end of the file."""
    text = CONTRIBUTING.read_text(encoding="utf-8")
    entry = text.partition("At the end of `src/thawlab/metrics.py`:\n\n```python\n")[2].partition("```\n")[0]
    module = {**vars(metrics), "METRICS": {}}
    exec(entry, module)
    for name, metric in module["METRICS"].items():
        monkeypatch.setitem(METRICS, name, metric)


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


@pytest.mark.parametrize("name", SKLEARN)
@pytest.mark.parametrize("missing", [None, 3])
def test_without_weights_a_metric_is_what_sklearn_says_a_class_without_samples_left_out(name, missing):
    runs = [predictions(seed=seed, missing=missing) for seed in range(3)]
    found = from_predictions()[name](runs, np.ones((60, 1)))
    np.testing.assert_allclose(found[:, 0], [SKLEARN[name](run) for run in runs], rtol=1e-12)


@pytest.mark.parametrize("name", SKLEARN)
def test_a_weight_is_as_good_as_a_repetition(name):
    run, rng = predictions(), np.random.default_rng(1)
    counts = rng.integers(0, 3, size=(60, 4))
    counts[run.labels == 2, 0] = 0  # a resample without one class
    found = from_predictions()[name]([run], counts.astype(np.float64))[0]
    expected = [SKLEARN[name](repeated(run, column)) for column in counts.T]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_every_metric_that_predictions_give_is_compared_with_sklearn():
    assert from_predictions().keys() == SKLEARN.keys()


@pytest.mark.parametrize("missing", [None, 3])
def test_logits_and_predictions_give_the_same_metrics(missing):
    run = predictions(missing=missing)
    assert run.probabilities is not None
    logged = compute_test_metrics(np.log(run.probabilities), run.labels)
    known = {name: float(of([run], np.ones((60, 1)))[0, 0]) for name, of in from_predictions().items()}
    assert {name: logged[name] for name in known} == pytest.approx(known, rel=1e-6)


def test_a_metric_below_zero_has_an_interval_around_it():
    labels = np.arange(60) % 2
    scores = score("test/kappa", [[Predictions(labels, np.where(np.arange(60) < 45, 1 - labels, labels))]])
    found = estimate(scores, 0)
    assert found.mean == pytest.approx(-0.5)
    assert found.high - found.mean == pytest.approx(found.mean - found.low)
    assert (
        0.15 < found.high - found.mean < 0.3
    )  # 2 · √(¼ · ¾ / 60) is the standard error, as half of them are of a class


def test_a_probability_of_zero_is_no_infinite_loss():
    run = Predictions(np.array([0, 1]), np.array([0, 0]), np.array([[1.0, 0.0], [1.0, 0.0]], dtype=np.float32))
    found = from_predictions()["test/loss"]([run], np.ones((2, 1)))
    np.testing.assert_allclose(found, [[-np.log(np.finfo(np.float32).eps) / 2]], rtol=1e-6)


def test_the_loss_needs_probabilities():
    with pytest.raises(ValueError, match="needs the probabilities of each class"):
        from_predictions()["test/loss"]([replace(predictions(), probabilities=None)], np.ones((60, 1)))
