"""From runs to a `Comparison`: read, sort into configurations, test, and say what was found."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isclose

import numpy as np

from thawlab.compare.comparison import Comparison, Configuration, Estimate, Grouping, Pair, Row
from thawlab.compare.select.baseline import baseline_of
from thawlab.compare.select.grouping import group
from thawlab.compare.select.measure import Measured, best_disagreements, best_first, confusion, measure, values
from thawlab.compare.select.request import Request
from thawlab.compare.stats import intervals_and_tests
from thawlab.compare.stats.bootstrap import Scores
from thawlab.compare.stats.holm import best_of, not_distinguishable
from thawlab.compare.stats.pareto import fronts
from thawlab.compare.wording import caveats, small_data
from thawlab.compare.wording.conclusion import conclude
from thawlab.metrics import higher_is_better, is_share
from thawlab.tracking.results import links, metric_histories
from thawlab.tracking.select_runs import Selection, select_runs
from thawlab.tracking.store import Store

MOST = 64  # configurations: there are 2,016 pairs of them
_CURVE = "val/acc"
_ADDRESS = "http://127.0.0.1:5000"  # where `thawlab ui` shows a local store


def compare_runs(store: Store, request: Request, command: str = "") -> tuple[Comparison, str | None]:
    """Compare the runs that are asked for.

    Args:
        store: where they are.
        request: which, and how.
        command: that repeats it.

    Returns:
        The comparison, and the id of the sweep's parent run if they are those of a sweep.

    Raises:
        ConfigError: nothing can be compared as asked: no such setting or metric, or different test sets.
        ValueError: the runs cannot be found, or the store cannot be reached.
    """
    selection = select_runs(
        store, sweep=request.sweep, experiment=request.experiment, runs=request.runs, filter=request.filter
    )
    grouping = group(selection.records, request.by or None, request.metric)
    baseline = baseline_of(grouping.configurations, request)
    grouping, dropped = _the_best(grouping, request.metric, baseline)
    measured = measure(store, grouping, request.metric)
    comparison = _comparison(store, selection, measured, request, command)
    place = None
    if baseline is not None:
        place = next((k for k, row in enumerate(comparison.rows) if row.configuration.label == baseline.label), None)
    comparison = replace(comparison, baseline=place)
    notes = (selection.unfinished, *comparison.notes) if selection.unfinished else comparison.notes
    if dropped:
        notes = (
            f"only the {MOST} best of {MOST + dropped} configurations are compared; narrow down by filter=",
            *notes,
        )
    return replace(comparison, conclusion=conclude(comparison), notes=notes), selection.parent_id


def _comparison(store: Store, selection: Selection, measured: Measured, request: Request, command: str) -> Comparison:
    """All but the baseline and what is said of it."""
    metric, grouping, scores = request.metric, measured.grouping, measured.scores
    found = values(measured, metric)
    higher = higher_is_better(metric)
    rows, pairs = _rows(grouping.configurations, found, scores, higher, is_share(metric)), _pairs(found, scores)
    rows = _judged(rows, pairs, higher)
    ids = [run.run_id for each in grouping.configurations for run in each.runs]
    histories = metric_histories(store, ids, _CURVE) if ids else {}
    rows = [
        replace(row, curve=_curve(row.configuration, histories), confusion=confusion(measured, place))
        for place, row in enumerate(rows)
    ]
    records = [*(run for each in grouping.configurations for run in each.runs), *(e.run for e in grouping.excluded)]
    return Comparison(
        title=selection.title,
        metric=metric,
        percent=is_share(metric),
        higher_is_better=higher,
        level=intervals_and_tests.LEVEL,
        rows=tuple(rows),
        pairs=pairs,
        grouping=grouping,
        notes=(*caveats.notes(grouping, rows, scores, metric), *small_data.notes(grouping, histories)),
        samples=scores.samples if scores else 0,
        classes=measured.tested.classes if measured.tested else (),
        disagreements=best_disagreements(measured, next(k for k, row in enumerate(rows) if row.is_best))
        if rows
        else (),
        links=links(store, records, None if store.uri.startswith("http") else _ADDRESS),
        command=command,
    )


def _the_best(grouping: Grouping, metric: str, baseline: Configuration | None) -> tuple[Grouping, int]:
    """No more configurations than can be compared in pairs, and how many were dropped."""
    ranked = best_first(grouping.configurations, metric)
    kept = list(ranked[:MOST])
    if baseline is not None and baseline not in kept:
        kept[-1] = baseline
    return replace(grouping, configurations=tuple(kept)), len(ranked) - len(kept)


def _rows(
    configurations: Sequence[Configuration],
    values: Sequence[np.ndarray],
    scores: Scores | None,
    higher: bool,
    share: bool,
) -> list[Row]:
    costs = [_costs(each) for each in configurations]
    on_fronts = fronts([float(each.mean()) for each in values], costs, higher)
    made = []
    for place, configuration in enumerate(configurations):
        estimate: Estimate = (
            intervals_and_tests.estimate(scores, place)
            if scores
            else intervals_and_tests.seed_estimate(values[place].tolist(), share)
        )
        own = tuple(values[place].tolist())
        made.append(Row(configuration, own, estimate, False, False, costs[place], on_fronts[place]))
    return made


def _costs(configuration: Configuration) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for run in configuration.runs:
        costs = {name: value for name, value in run.metrics.items() if name.startswith("cost/")}
        if "cost/fit_seconds" in costs:
            # The activations below the frozen depth are computed once, by the first run that needs them.
            costs["cost/seconds"] = costs["cost/fit_seconds"] + costs.get("cost/cache_seconds", 0.0)
        for name, value in costs.items():
            found.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def _pairs(values: Sequence[np.ndarray], scores: Scores | None) -> tuple[Pair, ...]:
    return (
        intervals_and_tests.pairs(scores)
        if scores
        else intervals_and_tests.seed_pairs([each.tolist() for each in values])
    )


def _judged(rows: Sequence[Row], pairs: Sequence[Pair], higher: bool) -> list[Row]:
    """Which is best, and which may be."""
    if not rows:
        return []
    means = [row.estimate.mean for row in rows]
    best, alike = best_of(means, higher), not_distinguishable(means, pairs, higher)
    return [
        # Means over other seeds add up to other last bits.
        replace(row, is_best=isclose(row.estimate.mean, means[best], abs_tol=1e-12), distinguishable=place not in alike)
        for place, row in enumerate(rows)
    ]


def _curve(
    configuration: Configuration, histories: Mapping[str, list[tuple[int, float]]]
) -> dict[int, tuple[float, ...]]:
    steps: dict[int, list[float]] = {}
    for run in configuration.runs:
        for step, value in histories.get(run.run_id, []):
            steps.setdefault(step, []).append(value)
    return {step: tuple(steps[step]) for step in sorted(steps)}
