"""What the plots of a comparison draw, as numbers, so that the interactive figures and the pictures show the same."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from thawlab.compare.comparison import Comparison, Row
from thawlab.compare.plots import row_limits
from thawlab.compare.wording.reference_row import best
from thawlab.compare.wording.table_columns import factor_label, short_names

DEPTHS = ("freeze", "transfer")
_SHOWN_LINES = 14
_SHOWN_CLASSES = 30


@dataclass(frozen=True)
class DepthLine:
    """Rows that differ in a depth alone.

    Attributes:
        name: the setting of the other factors that vary; empty if there are none.
        depths: ascending.
        places: of the rows, in the order of the depths.
    """

    name: str
    depths: tuple[float, ...]
    places: tuple[int, ...]


@dataclass(frozen=True)
class Versus:
    """How the best row differs from another, class by class.

    Attributes:
        other: place of the other row.
        values: (classes, classes) shares for confusions, (classes,) for accuracies: best minus other.
        classes: places of the classes that are shown, in their order.
    """

    other: int
    values: np.ndarray
    classes: tuple[int, ...]


@dataclass(frozen=True)
class Axis:
    """An axis of the parallel coordinates.

    Attributes:
        name: a factor, the metric, or a `cost/…` metric.
        kind: which of these.
        values: one a row; for words their place among the ticks.
        ticks: the words; empty for numbers.
    """

    name: str
    kind: Literal["factor", "metric", "cost"]
    values: tuple[float, ...]
    ticks: tuple[str, ...] = ()


def depth_of(row: Row, key: str) -> float | None:
    """The depth as a number, whichever way it was written; None if the run does not say."""
    given = row.configuration.factors.get(key, "")
    kept = (run.params.get(f"{key}_depth", "") for run in row.configuration.runs)
    return next((value for text in (*kept, given) if (value := _number(text)) is not None), None)


def depth_lines(comparison: Comparison, key: str) -> list[DepthLine]:
    """A line for each setting of the other factors, the one with the best row first; none where there is one depth."""
    others = [name for name in comparison.grouping.factors if name != key]
    short = short_names(comparison.grouping.factors)
    found: dict[str, dict[float, int]] = {}
    for place, row in enumerate(comparison.rows):
        depth = depth_of(row, key)
        if depth is not None:
            found.setdefault(factor_label(row.configuration, others, short), {}).setdefault(depth, place)
    lines = []
    for name, places in found.items():
        depths = tuple(sorted(places))
        if len(depths) > 1:
            lines.append(DepthLine(name, depths, tuple(places[depth] for depth in depths)))
    return lines[:_SHOWN_LINES]


def cost_names(comparison: Comparison) -> list[str]:
    """The costs against which the metric can be plotted: known of two rows at least, and not the same for all."""
    wanted = ("cost/trainable_params", "cost/seconds", "cost/peak_memory_mb")
    result = []
    for name in wanted:
        values = {row.costs[name] for row in comparison.rows if math.isfinite(row.costs.get(name, math.nan))}
        if name != comparison.metric and len(values) > 1:
            result.append(name)
    return result


def front(comparison: Comparison, cost: str) -> list[int]:
    """Places of the rows on the front of a cost, the cheapest first."""
    places = [place for place, row in enumerate(comparison.rows) if cost in row.pareto and cost in row.costs]
    return sorted(places, key=lambda place: comparison.rows[place].costs[cost])


def wants_log(values: list[float]) -> bool:
    """Whether an axis of these values should be logarithmic."""
    return bool(values) and min(values) > 0 and max(values) / min(values) > 20


def curve_of(row: Row) -> tuple[list[int], np.ndarray]:
    """Epochs, and (epochs, 3) lowest, mean and highest validation accuracy over its runs."""
    epochs = [epoch for epoch in sorted(row.curve) if row.curve[epoch]]
    values = [row.curve[epoch] for epoch in epochs]
    return epochs, np.array([(min(each), float(np.mean(each)), max(each)) for each in values]).reshape(-1, 3)


def shares(row: Row) -> np.ndarray:
    """(classes, classes) share of each true class that was taken for each class; nan for a class without samples."""
    counts = np.asarray(row.confusion, dtype=float)
    totals = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)


def others_with_confusion(comparison: Comparison) -> list[int]:
    """Places of the rows with predictions that the best one, if it has some, is held against."""
    first = best(comparison)
    if first is None or comparison.rows[first].confusion is None:
        return []
    places = [place for place, row in enumerate(comparison.rows) if place != first and row.confusion is not None]
    return row_limits.compared(comparison, places)


def confusion_differences(comparison: Comparison) -> list[Versus]:
    """Confusions of the best minus those of another; where there are many classes, of those that differ most."""
    result = []
    for other, change in _changes(comparison):
        size = np.abs(change).sum(axis=0) + np.abs(change).sum(axis=1)
        shown = _largest(size)
        result.append(Versus(other, change[np.ix_(shown, shown)], shown))
    return result


def class_differences(comparison: Comparison) -> list[Versus]:
    """Share of each class that is right in the best minus in another; of many classes, those that differ most."""
    result = []
    for other, change in _changes(comparison):
        diagonal = change.diagonal()
        shown = _largest(np.abs(diagonal))
        result.append(Versus(other, diagonal[list(shown)], shown))
    return result


def parallel_axes(comparison: Comparison) -> list[Axis]:
    """Factors that vary, the metric, and costs that vary."""
    rows = comparison.rows
    axes = [_factor_axis(name, [row.configuration.factors for row in rows]) for name in comparison.grouping.factors]
    scale = 100 if comparison.percent else 1
    axes.append(Axis(comparison.metric, "metric", tuple(scale * row.estimate.mean for row in rows)))
    costs = cost_names(comparison)
    return axes + [Axis(name, "cost", tuple(row.costs.get(name, math.nan) for row in rows)) for name in costs]


def _factor_axis(name: str, factors: list[Mapping[str, str]]) -> Axis:
    words = [each.get(name, "–") for each in factors]
    numbers = [_number(word) for word in words]
    if None not in numbers:
        ordered = sorted(set(words), key=float)
    else:
        ordered = sorted(set(words), key=lambda word: (_number(word) is None, _number(word) or 0.0, word))
    # Also numbers stand at equal distances: learning rates would fall on each other otherwise.
    return Axis(name, "factor", tuple(float(ordered.index(word)) for word in words), tuple(ordered))


def _changes(comparison: Comparison) -> list[tuple[int, np.ndarray]]:
    first, others = best(comparison), others_with_confusion(comparison)
    if first is None or not others:
        return []
    mine = shares(comparison.rows[first])
    return [(other, np.nan_to_num(mine - shares(comparison.rows[other]))) for other in others]


def _largest(sizes: np.ndarray) -> tuple[int, ...]:
    order = np.argsort(-sizes, kind="stable")[:_SHOWN_CLASSES]
    return tuple(sorted(int(place) for place in order))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
