"""How the cost of the cache grows with the images, the depth and the jobs: the power, by a line through logarithms."""

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from common import Settings, Table, fit, load_data, opened, prepare, quiet, say, slope, subset, with_cache
from thawlab.data.feature_store.store import FeatureStore
from thawlab.data.images import ImageData

_COSTS = ("filling_seconds", "epoch_seconds", "verify_seconds")


def measure(settings: Settings) -> dict[str, Any]:
    """Costs over numbers of images, over depths, and over numbers of jobs; all rounds in turn, the medians kept."""
    data = load_data(settings)
    rounds = settings.chosen(3, 2, 1)
    counts = settings.chosen((250, 500, 1000, 2000), (250, 500, 1000), (16, 32))
    stages = len(prepare(settings.job().config, data).layers.stages) - 1
    middle = stages // 2 + 1
    depths = settings.chosen(range(1, stages + 1), sorted({1, middle, stages}), (1, 2))
    jobs = settings.chosen((1, 2, 4, 8), (1, 2, 4), (1, 2))
    images = _medians(
        [{count: _costs(settings, subset(data, count, 64), middle) for count in counts} for _ in range(rounds)]
    )
    few = subset(data, counts[1], 64)
    depth = _medians([{depth: _costs(settings, few, depth) for depth in depths} for _ in range(rounds)])
    seconds = {count: _jobs(settings, few, middle, count) for count in jobs}
    result: dict[str, Any] = {
        "images": _rows("images", images),
        "depth": _rows("depth", depth),
        "jobs": [{"jobs": count, "seconds": value} for count, value in seconds.items()],
        "at_depth": middle,
        "at_images": counts[1],
    }
    result["slopes"] = {
        kind: {cost: slope([row[kind] for row in result[kind]], [row[cost] for row in result[kind]]) for cost in costs}
        for kind, costs in (("images", _COSTS), ("depth", _COSTS), ("jobs", ("seconds",)))
    }
    return result


def _costs(settings: Settings, data: ImageData, depth: int) -> dict[str, float]:
    """Filling, reading through and training on the activations of some images at a depth."""
    folder = settings.folder("cache")
    job = with_cache(settings.job(f"freeze={depth}", "epochs=3"), "require", dir=str(folder), max_gb=50)
    prepared = prepare(job.config, data)
    with quiet():
        _, cache = opened(job, prepared)
    store = FeatureStore(folder, int(50e9))
    entries = store.entries()
    begun = time.perf_counter()
    assert [store.damage(entry.name) for entry in entries] == [None, None]
    verify = time.perf_counter() - begun
    timed = fit(settings.again(job), prepared)
    epochs = [epoch[-1] - epoch[0] for epoch in timed.watch.epochs[1:]]
    costs = {"filling_seconds": cache.totals.filling, "epoch_seconds": min(epochs), "verify_seconds": verify}
    shown = "  ".join(f"{name.removesuffix('_seconds')} {value:.3f} s" for name, value in costs.items())
    say(f"{len(data.train):,} images, freeze={depth}: {shown}")
    return {**costs, "mb": cache.totals.bytes / 1e6}


def _jobs(settings: Settings, data: ImageData, depth: int, count: int) -> float:
    """Seconds of so many jobs with different learning rates, which share a cache that is empty at first."""
    folder, total = settings.folder("cache"), 0.0
    for number in range(count):
        arguments = (f"freeze={depth}", "epochs=2", f"optimizer.lr={1e-3 * (number + 1)}")
        job = with_cache(settings.job(*arguments), "require", dir=str(folder), max_gb=50)
        total += fit(job, prepare(job.config, data)).seconds
    say(f"{count} jobs: {total:.2f} s")
    return total


def _medians(rounds: Sequence[Mapping[int, Mapping[str, float]]]) -> dict[int, dict[str, float]]:
    return {
        size: {cost: statistics.median(each[size][cost] for each in rounds) for cost in rounds[0][size]}
        for size in rounds[0]
    }


def _rows(kind: str, costs: Mapping[int, Mapping[str, float]]) -> list[dict[str, float]]:
    return [{kind: size, **values} for size, values in costs.items()]


def table(results: Mapping[str, Any]) -> Table:
    """A row for each size, and the powers below."""
    rows: list[Sequence[str]] = []
    for kind in ("images", "depth"):
        for row in results[kind]:
            costs = [f"{row[cost]:.3f}" for cost in _COSTS]
            rows.append((f"{row[kind]:,} {kind}" if kind == "images" else f"freeze={row[kind]}", *costs, ""))
        rows.append((f"power of the {kind}", *(f"{results['slopes'][kind][cost]:.2f}" for cost in _COSTS), ""))
    for row in results["jobs"]:
        rows.append((f"{row['jobs']} jobs", "", "", "", f"{row['seconds']:.2f}"))
    rows.append(("power of the jobs", "", "", "", f"{results['slopes']['jobs']['seconds']:.2f}"))
    columns = ("", "filling, s", "cached epoch, s", "verifying, s", "all jobs, s")
    title = f"Growth (images at freeze={results['at_depth']}, all else with {results['at_images']:,} images)"
    return Table(title, columns, rows)
