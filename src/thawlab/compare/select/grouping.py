"""Runs sorted into configurations: what differs in nothing but the seed belongs together."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from thawlab.compare.comparison import Configuration, Excluded, Grouping
from thawlab.compare.select.factors import Settings, factors_of
from thawlab.config.nearest import nearest
from thawlab.config.schema import ConfigError
from thawlab.tracking.select_runs import RunRecord

_ENDED = {"FAILED": "failed", "KILLED": "stopped before its end", "RUNNING": "still running", "SCHEDULED": "not begun"}


def group(records: Sequence[RunRecord], by: Sequence[str] | None = None, metric: str = "test/acc") -> Grouping:
    """Sort runs into configurations.

    Args:
        records: the runs; those that cannot be compared are told in `excluded`.
        by: the settings that tell configurations apart; without them all that vary, whatever a seed is not.
        metric: what is to be compared, which a run must have.

    Raises:
        ConfigError: no run has the metric, or one of the settings.
    """
    excluded = {each.run.run_id: each for each in _unusable(records, metric)}
    usable = [each for each in records if each.run_id not in excluded]
    if not usable:
        _check_sweeps(records)
        _check_metric(records, metric)
    copies = _copies(usable)
    kept = [each for each in usable if each.run_id not in copies]
    settings = Settings(kept)
    varying = settings.varying()
    names = settings.resolve(by) if by and kept else varying
    configurations = _configurations(settings, names)
    if not by:
        configurations, again = _once_a_seed(configurations)
        copies |= again
    wild = [each for each in records if each.run_id in excluded and is_diverged(each)]
    configurations = [replace(each, diverged=_like(each, wild, settings)) for each in configurations]
    told = {run.run_id: Excluded(run, f"duplicate of {copies[run.run_id]}") for run in usable if run.run_id in copies}
    excluded |= told
    return Grouping(
        configurations=tuple(configurations),
        factors=tuple(names),
        constants={key: value for key, value in settings.constants().items() if key not in names},
        excluded=tuple(excluded[each.run_id] for each in records if each.run_id in excluded),
        pooled=tuple(key for key in varying if key not in names and _varies_inside(key, settings, configurations)),
    )


def _unusable(records: Sequence[RunRecord], metric: str) -> Iterator[Excluded]:
    for run in records:
        if run.is_sweep:
            yield Excluded(run, f"no run but a sweep's heading; use sweep={run.run_id} for the runs below it")
        elif is_diverged(run):
            where = run.tags.get("diverged") or run.tags["nonfinite"]
            yield Excluded(run, f"diverged: its loss was not finite ({where})")
        elif run.status != "FINISHED":
            yield Excluded(run, _ENDED.get(run.status, run.status.lower()))
        elif metric not in run.metrics:
            yield Excluded(run, f"has no {metric}")
        elif not math.isfinite(run.metrics[metric]):
            yield Excluded(run, f"its {metric} is {'NaN' if math.isnan(run.metrics[metric]) else 'infinite'}")


def is_diverged(run: RunRecord) -> bool:
    """Whether its loss was not finite: such a run is stopped; earlier versions let it finish."""
    if run.status == "FINISHED":
        return any(f"{name}=" in run.tags.get("nonfinite", "") for name in ("train/loss", "val/loss"))
    return run.status == "FAILED" and "diverged" in run.tags


def _like(configuration: Configuration, runs: Sequence[RunRecord], settings: Settings) -> int:
    """How many of the runs have the factors of the configuration."""
    factors = configuration.factors.items()
    return sum(all(own in (settings.value(run, name), run.tags.get(name)) for name, own in factors) for run in runs)


def _check_sweeps(records: Sequence[RunRecord]) -> None:
    if records and all(each.is_sweep for each in records):
        raise ConfigError(
            f"runs: {', '.join(each.run_id for each in records)}: no run but a sweep's heading; use "
            f"sweep={records[0].run_id} for the runs below it"
        )


def _check_metric(records: Sequence[RunRecord], metric: str) -> None:
    names = sorted({name for run in records if run.status == "FINISHED" for name in run.metrics})
    if names and metric not in names:
        near = nearest(metric, names) or [name for name in names if name.startswith("test/")] or names[:5]
        raise ConfigError(f"metric={metric}: no run that has finished has it; use {', '.join(near)}")


def _copies(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Runs that say the same as a newer one, by the newer one's id."""
    newest: dict[tuple[str | None, ...], RunRecord] = {}
    copies = {}
    for run in sorted(runs, key=lambda each: each.started, reverse=True):
        if "config_hash" not in run.tags:
            continue
        same = tuple(run.tags.get(name) for name in ("config_hash", "dataset_digest", "weights_digest"))
        if newest.setdefault(same, run) is not run:
            copies[run.run_id] = newest[same].run_id
    return copies


def _configurations(settings: Settings, names: Sequence[str]) -> list[Configuration]:
    columns = [settings.columns[name] for name in names]
    found: dict[tuple[str | None, ...], list[RunRecord]] = {}
    for place, run in enumerate(settings.records):
        found.setdefault(tuple(column[place] for column in columns), []).append(run)
    ranks: list[Mapping[str | None, int]] = []
    for name, column in zip(names, columns, strict=True):
        ordered = sorted(set(column), key=settings.order(name))
        ranks.append({value: rank for rank, value in enumerate(ordered)})
    keys = sorted(found, key=lambda key: [rank[value] for rank, value in zip(ranks, key, strict=True)])
    return [_configuration(dict(zip(names, key, strict=True)), found[key]) for key in keys]


def _configuration(row: Mapping[str, str | None], runs: Sequence[RunRecord]) -> Configuration:
    factors = factors_of(row)
    label = " ".join(f"{key}={value}" for key, value in factors.items())
    return Configuration(label, factors, tuple(sorted(runs, key=_by_seed)))


def _by_seed(run: RunRecord) -> tuple[float, float]:
    seed = run.params.get("seed", "")
    return float(seed) if seed.isdecimal() else math.inf, run.started


def _once_a_seed(configurations: Sequence[Configuration]) -> tuple[list[Configuration], dict[str, str]]:
    """Each seed counts once: the newest of those that differ in nothing but where they were computed."""
    result, copies = [], {}
    for each in configurations:
        newest: dict[str, RunRecord] = {}
        for run in sorted(each.runs, key=lambda one: one.started, reverse=True):
            # Without a seed in the store, runs are repeats, each with a draw of its own.
            seed = run.params.get("seed", run.run_id)
            if newest.setdefault(seed, run) is not run:
                copies[run.run_id] = newest[seed].run_id
        runs = tuple(run for run in each.runs if run.run_id not in copies)
        result.append(replace(each, runs=runs))
    return result, copies


def _varies_inside(key: str, settings: Settings, configurations: Sequence[Configuration]) -> bool:
    value = dict(zip([run.run_id for run in settings.records], settings.columns[key], strict=True))
    return any(len({value[run.run_id] for run in each.runs}) > 1 for each in configurations)
