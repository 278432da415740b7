"""What the metric of each configuration is known from: predictions where runs kept them, else the runs' own values."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from thawlab.compare.comparison import Configuration, Disagreement, Grouping
from thawlab.compare.select.aligned_predictions import PredictionSet, read
from thawlab.compare.select.same_test_set import check_same_images
from thawlab.compare.stats.bootstrap import Scores, score
from thawlab.compare.stats.disagreements import disagreements
from thawlab.metrics import Predictions, from_predictions, higher_is_better
from thawlab.tracking.store import Store


@dataclass(frozen=True, eq=False)
class Measured:
    """Configurations whose runs can be used, the best first, with what their metric is known from."""

    grouping: Grouping
    scores: Scores | None
    tested: PredictionSet | None
    predictions: Sequence[Sequence[Predictions]]


def measure(store: Store, grouping: Grouping, metric: str) -> Measured:
    """From predictions if the metric can be had from them and the runs kept them, else from the runs' own values."""
    configurations = best_first(grouping.configurations, metric)
    by_values = Measured(replace(grouping, configurations=configurations), None, None, ())
    if metric not in from_predictions():
        if metric.startswith(("test/", "best/")):
            check_same_images(store, (run for each in configurations for run in each.runs))
        return by_values
    if not configurations:
        return by_values
    tested = read(store, configurations)
    if not tested.ids:
        return by_values
    kept = [k for k, each in enumerate(tested.configurations) if each.runs]
    gone = {each.run.run_id: each for each in tested.excluded}
    found = tuple(replace(configurations[k], runs=tested.configurations[k].runs) for k in kept)
    predictions = [
        [Predictions(tested.labels, *pair) for pair in zip(each.predicted, each.probabilities, strict=True)]
        for each in (tested.configurations[k] for k in kept)
    ]
    excluded = (*grouping.excluded, *gone.values())
    return Measured(
        replace(grouping, configurations=found, excluded=excluded), score(metric, predictions), tested, predictions
    )


def best_first(configurations: Sequence[Configuration], metric: str) -> tuple[Configuration, ...]:
    """The best first, by the mean that the runs logged."""
    sign = -1 if higher_is_better(metric) else 1
    return tuple(sorted(configurations, key=lambda each: sign * _mean(each, metric)))


def _mean(configuration: Configuration, metric: str) -> float:
    return float(np.mean([run.metrics[metric] for run in configuration.runs]))


def values(measured: Measured, metric: str) -> list[np.ndarray]:
    """Of each configuration, the metric of its runs, (S,)."""
    if measured.scores is not None:
        return list(measured.scores.values)
    return [np.array([run.metrics[metric] for run in each.runs]) for each in measured.grouping.configurations]


def confusion(measured: Measured, place: int) -> np.ndarray | None:
    """(classes, classes) counts of a configuration, rows are labels; None without predictions."""
    if measured.tested is None:
        return None
    labels, classes = measured.tested.labels, len(measured.tested.classes)
    counts = np.zeros((classes, classes), dtype=np.int64)
    for run in measured.predictions[place]:
        np.add.at(counts, (labels, run.predicted), 1)
    return counts


def best_disagreements(measured: Measured, best: int) -> tuple[Disagreement, ...]:
    """The images on which the best differs from the others; none without predictions."""
    tested = measured.tested
    if tested is None:
        return ()
    return disagreements(measured.predictions, tested, best)
