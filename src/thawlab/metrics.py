"""Every metric once: its name, its direction, its scale, and how it is computed, from logits and from predictions.

From logits it is the metric of one run, as MLflow keeps it. From predictions, under any weights of the samples, it is
that of all runs and many resamples at once, as a comparison needs it. A metric more is one more entry of `METRICS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from torch import Tensor


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


FromLogits = Callable[["Tensor", "Tensor"], "Tensor"]
FromPredictions = Callable[[Sequence[Predictions], np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Metric:
    """A metric of the test set.

    Attributes:
        from_logits: from logits (N, C) and labels (N,) to the metric, a scalar.
        from_predictions: from the runs' predictions and weights (N, R) of the samples to the metric (runs, R); None if
            it cannot be had so, and runs are compared by the values that they kept.
        scale: `share` lies in 0…1 and is read in percent, `positive` has no upper end, `signed` may be below 0.
        higher_is_better: its direction.
        least_classes: with fewer it says nothing, and is left out.
    """

    from_logits: FromLogits
    from_predictions: FromPredictions | None
    scale: Literal["share", "positive", "signed"] = "share"
    higher_is_better: bool = True
    least_classes: int = 2


def _acc_of_logits(logits: "Tensor", labels: "Tensor", top_k: int = 1) -> "Tensor":
    from torchmetrics.functional.classification import multiclass_accuracy

    return multiclass_accuracy(logits, labels, logits.shape[1], average="micro", top_k=top_k)


def _balanced_acc_of_logits(logits: "Tensor", labels: "Tensor") -> "Tensor":
    """Mean recall over the classes that occur."""
    from torchmetrics.functional.classification import multiclass_accuracy

    return multiclass_accuracy(logits, labels, logits.shape[1], average="none")[labels.unique()].mean()


def _f1_macro_of_logits(logits: "Tensor", labels: "Tensor") -> "Tensor":
    """Over the classes that occur or are predicted."""
    from torchmetrics.functional.classification import multiclass_f1_score

    return multiclass_f1_score(logits, labels, logits.shape[1], average="macro")


def _cross_entropy_of_logits(logits: "Tensor", labels: "Tensor") -> "Tensor":
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits, labels)


def _ece_of_logits(logits: "Tensor", labels: "Tensor") -> "Tensor":
    """Expected calibration error, 15 bins (Guo et al. 2017)."""
    from torchmetrics.functional.classification import multiclass_calibration_error

    return multiclass_calibration_error(logits.softmax(1), labels, logits.shape[1], n_bins=15)


def _weighted(each: Callable[[Predictions], np.ndarray]) -> FromPredictions:
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


METRICS: dict[str, Metric] = {
    "test/acc": Metric(_acc_of_logits, _weighted(correct)),
    "test/balanced_acc": Metric(_balanced_acc_of_logits, _balanced_acc),
    "test/f1_macro": Metric(_f1_macro_of_logits, _f1_macro),
    "test/loss": Metric(_cross_entropy_of_logits, _weighted(_nll), scale="positive", higher_is_better=False),
    "test/ece": Metric(_ece_of_logits, None, higher_is_better=False),
    "test/acc_top5": Metric(partial(_acc_of_logits, top_k=5), _weighted(_in_top5), least_classes=6),
}


def from_predictions() -> dict[str, FromPredictions]:
    """The metrics that can be had from predictions, by name."""
    return {name: metric.from_predictions for name, metric in METRICS.items() if metric.from_predictions}


def higher_is_better(name: str) -> bool:
    """The direction of anything that a run logs; what is no metric of a split, such as `best/epoch`, counts as good."""
    if name.startswith("cost/"):
        return name.endswith("per_second")
    metric = _metric_of(name)
    return metric is None or metric.higher_is_better


def is_share(name: str) -> bool:
    """Whether anything that a run logs lies in 0…1 and is read in percent."""
    metric = _metric_of(name)
    return metric is not None and metric.scale == "share"


def _metric_of(name: str) -> Metric | None:
    """The metric that is logged under a name: `test/acc` for `val/acc` and `best/val_acc`, too."""
    return METRICS.get(f"test/{name.rpartition('/')[2].removeprefix('val_')}")
