"""Comparisons of several kinds, made up on the spot."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from math import nan, sqrt
from pathlib import Path

import numpy as np
from PIL import Image

from thawlab.compare.comparison import (
    Comparison,
    Configuration,
    Difference,
    Disagreement,
    Estimate,
    Excluded,
    Grouping,
    Pair,
    Row,
)
from thawlab.data.images import bytes_hash
from thawlab.tracking.select_runs import RunRecord

NASTY = "<script>alert(1)</script>"
CLASSES = ("cat", "dog", NASTY, "a & b_c $x$", "zebra")


def run_record(run_id: str, seed: int, params: Mapping[str, str], status: str = "FINISHED") -> RunRecord:
    params = {"seed": str(seed), **params}
    name = " ".join(f"{key}={value}" for key, value in params.items())
    return RunRecord(run_id, name, "1", status, 1.7e9 + seed, params, {}, {}, f"file:///runs/{run_id}")


def build(
    settings: Sequence[Mapping[str, str]],
    mean: Callable[[Mapping[str, str]], float],
    seeds: int = 3,
    percent: bool = True,
    predictions: bool = True,
    higher_is_better: bool = True,
) -> Comparison:
    """A comparison in which a setting's metric is known; the same each time."""
    rng = np.random.default_rng(0)
    rows = [_row(number, factors, mean(factors), seeds, predictions, rng) for number, factors in enumerate(settings)]
    rows.sort(key=lambda row: row.estimate.mean, reverse=higher_is_better)
    leader = rows[0].estimate
    rows = [
        replace(
            row,
            is_best=place == 0,
            distinguishable=abs(row.estimate.mean - leader.mean) > 0.02,
            pareto=_fronts(row, rows),
        )
        for place, row in enumerate(rows)
    ]
    return Comparison(
        title="sweep thawing",
        metric="test/acc",
        percent=percent,
        higher_is_better=higher_is_better,
        level=0.95,
        rows=tuple(rows),
        pairs=_pairs(rows, seeds),
        grouping=_grouping(rows, tuple(settings[0])),
        conclusion=(f"{rows[0].configuration.label} is best.", "It differs from most of the others beyond chance."),
        notes=("Three seeds a configuration: five would halve the intervals' width.",),
        samples=500 if predictions else 0,
        classes=CLASSES if predictions else (),
        links={run.run_id: f"http://mlflow.test/#/runs/{run.run_id}" for row in rows for run in row.configuration.runs},
        command="thawlab compare sweep=latest 'title=a \"b\"'",
    )


def _row(
    number: int, factors: Mapping[str, str], mean: float, seeds: int, predictions: bool, rng: np.random.Generator
) -> Row:
    runs = tuple(run_record(f"{number:02x}{seed:02x}" * 8, seed, factors) for seed in range(seeds))
    values = tuple(float(value) for value in mean + 0.01 * rng.standard_normal(seeds))
    average = float(np.mean(values))
    sd = float(np.std(values, ddof=1)) if seeds > 1 else None
    half = nan if sd is None else 2.5 * sd / sqrt(seeds)
    depth = float(factors.get("freeze", "0")) if factors.get("freeze", "0").isdigit() else 0.0
    costs = {
        "cost/trainable_params": 11_000_000 * 0.4**depth + 5130 + number,
        "cost/fit_seconds": 110 - 10 * depth + number,
        "cost/seconds": 120 - 10 * depth + number,
        "cost/peak_memory_mb": 2100 - 200 * depth,
    }
    curve = {
        epoch: tuple(float(mean - 0.5 * 0.7**epoch + 0.02 * rng.standard_normal()) for _ in range(seeds))
        for epoch in range(12)
    }
    label = " ".join(f"{key}={value}" for key, value in factors.items())
    confusion = _confusion(mean, seeds, rng) if predictions else None
    estimate = Estimate(average, sd, average - half, average + half)
    return Row(
        Configuration(label, factors, runs), values, estimate, False, False, costs, frozenset(), curve, confusion
    )


def _confusion(mean: float, seeds: int, rng: np.random.Generator) -> np.ndarray:
    counts = np.zeros((len(CLASSES), len(CLASSES)), dtype=int)
    for place in range(len(CLASSES)):
        wrong = (1 - min(max(mean, 0.05), 0.95)) / (len(CLASSES) - 1)
        chances = np.full(len(CLASSES), wrong)
        chances[place] = 1 - wrong * (len(CLASSES) - 1)
        counts[place] = rng.multinomial(100 * seeds, chances)
    return counts


def _fronts(row: Row, rows: Sequence[Row]) -> frozenset[str]:
    mine = row.estimate.mean
    return frozenset(
        cost
        for cost, value in row.costs.items()
        if not any(other.costs[cost] <= value and other.estimate.mean > mine for other in rows)
    )


def _pairs(rows: Sequence[Row], seeds: int) -> tuple[Pair, ...]:
    pairs = []
    for first, second in combinations(range(len(rows)), 2):
        value = rows[first].estimate.mean - rows[second].estimate.mean
        half = 0.015 if seeds > 1 else nan
        p = 0.0002 if abs(value) > 0.05 else 0.031 if abs(value) > 0.02 else 0.4
        difference = Difference(value, value - half, value + half, p, min(1.0, 3 * p), value / 0.01, "paired bootstrap")
        pairs.append(Pair(first, second, difference))
    return tuple(pairs)


def _grouping(rows: Sequence[Row], factors: tuple[str, ...]) -> Grouping:
    excluded = (
        Excluded(run_record("dead" * 8, 0, {"freeze": "9"}, "FAILED"), "failed"),
        Excluded(run_record("beef" * 8, 1, {}), f"duplicate of {NASTY}"),
    )
    constants = {
        "backbone.name": "resnet18",
        "dataset.name": "flowers",
        "epochs": "12",
        "optimizer.weight_decay": "0.01",
    }
    return Grouping(tuple(row.configuration for row in rows), factors, constants, excluded)


def depth_sweep() -> Comparison:
    """Eight depths, three seeds each."""
    return build([{"freeze": str(depth)} for depth in range(8)], lambda at: 0.93 - 0.004 * (int(at["freeze"]) - 3) ** 2)


def depths_by_strategy() -> Comparison:
    """Depths crossed with strategies."""
    names = ("finetune", "gradual", "l2_sp")
    settings = [{"freeze": str(depth), "strategy.name": name} for name in names for depth in (0, 2, 4)]
    return build(settings, lambda at: 0.9 - 0.01 * int(at["freeze"]) + 0.015 * names.index(at["strategy.name"]))


def strategies() -> Comparison:
    """Strategies crossed with learning rates; their names are long."""
    names = ("full_fine_tuning", "gradual_unfreezing", "surgical_fine_tuning", "linear_probe_then_fine_tuning")
    rates = ("0.0001", "0.001", "0.01")
    settings = [{"strategy.name": name, "optimizer.lr": rate} for name in names for rate in rates]
    comparison = build(
        settings, lambda at: 0.8 + 0.02 * names.index(at["strategy.name"]) + 0.02 * rates.index(at["optimizer.lr"])
    )
    return replace(comparison, baseline=3)


def close_together() -> Comparison:
    """Fifteen configurations: a crowd that costs the same and is as good, and three far from it."""
    comparison = build([{"freeze": str(depth)} for depth in range(15)], lambda _: 0.9, predictions=False)
    rows = []
    for place, row in enumerate(comparison.rows):
        at, cost = (0.9 - 0.002 * place, 100.0 + place % 3) if place < 12 else (0.5 - 0.1 * place / 15, 10.0 * place)
        costs = {**row.costs, "cost/seconds": cost}
        rows.append(replace(row, estimate=replace(row.estimate, mean=at), costs=costs))
    return replace(comparison, rows=tuple(rows))


def single_run() -> Comparison:
    """One configuration, one seed: no interval, nothing to compare with."""
    comparison = build([{}], lambda _: 0.87, seeds=1)
    return replace(comparison, links={})


def cost_only() -> Comparison:
    """A metric that is no share, and the smaller the better."""
    settings = [{"optimizer.name": name} for name in ("adamw", "sgd", "lion")]
    comparison = build(
        settings, lambda at: 0.5 + len(at["optimizer.name"]) / 10, higher_is_better=False, predictions=False
    )
    return replace(comparison, metric="cost/seconds", percent=False)


def without_intervals() -> Comparison:
    """One seed each and no predictions: every interval is nan."""
    settings = [{"freeze": str(depth)} for depth in (0, 2, 4)]
    return build(settings, lambda at: 0.9 - 0.05 * int(at["freeze"]), seeds=1, predictions=False)


def nothing() -> Comparison:
    """All runs are excluded."""
    comparison = depth_sweep()
    grouping = replace(comparison.grouping, configurations=())
    return replace(
        comparison, rows=(), pairs=(), grouping=grouping, classes=(), conclusion=("No run is left to compare.",)
    )


def _hash(path: str) -> str:
    return bytes_hash(Path(path).read_bytes()) if Path(path).is_file() else ""


def with_images(comparison: Comparison, folder: Path) -> Comparison:
    """The same with images that two configurations see differently: some kept, one gone, one no image."""
    rng = np.random.default_rng(1)
    paths = []
    for number, size in enumerate(((64, 48), (300, 900), (900, 300))):
        path = folder / f"image {number} é.png"
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(path)
        paths.append(str(path))
    broken = folder / "broken.jpg"
    broken.write_bytes(b"no image")
    paths += [str(broken), str(folder / f"gone {NASTY.replace('/', '')}.jpg"), ""]
    shown = tuple(
        Disagreement(0, 1, path, f"flowers/{number}", NASTY, "dog", 1 - number / 10, _hash(path))
        for number, path in enumerate(paths)
    )
    return replace(comparison, disagreements=shown)


def hostile() -> Comparison:
    """Settings, title and links that would be read as markup, formulas or scripts where they are not escaped."""
    words = (NASTY, "$a_1$ & 50 %", "</script><b>", "a|b*c`d")
    settings = [{"note.name": word, "optimizer.lr": rate} for word in words for rate in ("0.01", "0.1")]
    comparison = build(settings, lambda at: 0.8 + 0.03 * words.index(at["note.name"]) + float(at["optimizer.lr"]) / 10)
    bad = dict.fromkeys(comparison.links, "javascript:alert(1)")
    conclusion = (f"{NASTY} is best & $so$ on.",)
    return replace(comparison, title=f"{NASTY} $x$ 100 %", links=bad, conclusion=conclusion)


ALL = (depth_sweep, depths_by_strategy, strategies, single_run, cost_only, without_intervals, nothing, hostile)
