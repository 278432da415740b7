"""Test metrics from predictions, under any weights of the samples: all runs and many resamples at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

_SHARES = ("acc", "val_acc", "acc_top5", "balanced_acc", "f1_macro", "ece")
_LOW_IS_GOOD = ("loss", "ece")


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a run said of every test sample.

    Attributes:
        labels: (N,) class indices.
        predicted: (N,) class indices.
        probabilities: (N, C); None where only the classes are known, which `test/loss` and `test/acc_top5` refuse.
    """

    labels: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray | None = None


@dataclass(frozen=True)
class Metric:
    """A metric that predictions give.

    Attributes:
        of: from the runs' predictions and weights (N, R) to the metric (runs, R).
        share: whether it lies in 0…1, 1 being the best.
    """

    of: Callable[[Sequence[Predictions], np.ndarray], np.ndarray]
    share: bool


def _weighted(each: Callable[[Predictions], np.ndarray]) -> Callable[[Sequence[Predictions], np.ndarray], np.ndarray]:
    """The metric that is the weighted mean of a value of each sample."""

    def of(runs: Sequence[Predictions], weights: np.ndarray) -> np.ndarray:
        values = np.stack([each(run) for run in runs]).astype(weights.dtype)  # (runs, N)
        return values @ weights / weights.sum(axis=0)

    return of


def correct(run: Predictions) -> np.ndarray:
    """Which samples a run gets right, (N,)."""
    return run.predicted == run.labels


def _of_label(run: Predictions) -> np.ndarray:
    if run.probabilities is None:
        raise ValueError("metric: needs the probabilities of each class, and the run kept none; use test/acc")
    return np.take_along_axis(run.probabilities, run.labels[:, None], axis=1)  # (N, 1)


def _nll(run: Predictions) -> np.ndarray:
    # Bounded as in sklearn: a probability that was rounded to zero is no infinite loss.
    probability = _of_label(run)[:, 0]
    return -np.log(np.maximum(probability, np.finfo(probability.dtype).eps))


def _in_top5(run: Predictions) -> np.ndarray:
    probability = _of_label(run)
    assert run.probabilities is not None
    # Of equal probabilities the higher index comes first, as in sklearn.
    later = np.arange(run.probabilities.shape[1]) > run.labels[:, None]
    before = (run.probabilities > probability) | ((run.probabilities == probability) & later)
    return before.sum(axis=1) < 5


def _balanced_acc(runs: Sequence[Predictions], weights: np.ndarray) -> np.ndarray:
    labels, classes = runs[0].labels, _classes(runs)
    occurring = _totals(labels, np.ones(len(labels)), classes, weights)
    return np.stack(
        [_mean_ratio(_totals(labels, correct(run), classes, weights), occurring) for run in runs]
    )  # (runs, R)


def _f1_macro(runs: Sequence[Predictions], weights: np.ndarray) -> np.ndarray:
    labels, classes = runs[0].labels, _classes(runs)
    ones = np.ones(len(labels))
    occurring = _totals(labels, ones, classes, weights)

    def f1(run: Predictions) -> np.ndarray:
        found = _totals(labels, correct(run), classes, weights)
        return _mean_ratio(2 * found, occurring + _totals(run.predicted, ones, classes, weights))

    return np.stack([f1(run) for run in runs])


def _classes(runs: Sequence[Predictions]) -> int:
    return 1 + max(int(max(run.labels.max(), run.predicted.max())) for run in runs)


def _totals(groups: np.ndarray, values: np.ndarray, classes: int, weights: np.ndarray) -> np.ndarray:
    """Weighted sums of the samples' values by class, (classes, R); sparse, so that many classes cost no more."""
    places = (groups, np.arange(len(groups)))
    return sparse.csr_array((values.astype(weights.dtype), places), shape=(classes, len(groups))) @ weights


def _mean_ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    """Mean over the classes of `over / under`, (R,), without classes that have no sample there."""
    present = under > 0
    return np.divide(over, under, out=np.zeros_like(over), where=present).sum(axis=0) / present.sum(axis=0)


METRICS: Mapping[str, Metric] = {
    "test/acc": Metric(_weighted(correct), share=True),
    "test/acc_top5": Metric(_weighted(_in_top5), share=True),
    "test/balanced_acc": Metric(_balanced_acc, share=True),
    "test/f1_macro": Metric(_f1_macro, share=True),
    "test/loss": Metric(_weighted(_nll), share=False),
}


def higher_is_better(metric: str) -> bool:
    """The direction of a metric, by its name."""
    if metric.startswith("cost/"):
        return metric.endswith("per_second")
    return metric.rpartition("/")[2] not in _LOW_IS_GOOD


def is_share(metric: str) -> bool:
    """Whether a metric lies in 0…1 and is read in percent, by its name."""
    return not metric.startswith("cost/") and metric.rpartition("/")[2] in _SHARES
