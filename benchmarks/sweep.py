"""A sweep over freeze depths, seeds and learning rates, with the cache and without; then five further rates.

Each job is what a run does between its configuration and its last epoch (network, plan, cut, fit, audit), in this
process, so that starting Python and MLflow, which costs both alike, is left out; so are the images' listing and the
test.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from common import Settings, Table, fit, load_data, prepare, say, with_cache

RATES = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)


def measure(settings: Settings) -> dict[str, Any]:
    """The seconds of every job, cached and uncached in turn."""
    data, folder = load_data(settings), settings.folder("cache")
    stages = len(prepare(settings.job().config, data).layers.stages) - 1
    depths = settings.chosen(range(stages + 1), sorted({0, stages // 2, stages}), (1,))
    seeds, rates = settings.chosen((0, 1), (0,), (0,)), settings.chosen((1e-3, 4e-3), (1e-3, 4e-3), (1e-3,))
    epochs = settings.chosen(5, 3, 1)
    cache = {"dir": str(folder), "max_gb": 50, "prefill": settings.chosen(list(depths)[1:], list(depths)[1:], [])}

    def job(name: str, *arguments: str) -> dict[str, float]:
        begun = time.perf_counter()
        given = with_cache(settings.job(f"epochs={epochs}", *arguments), name, **cache)
        timed = fit(given, prepare(given.config, data))
        totals = timed.cache.totals
        return {
            "seconds": time.perf_counter() - begun,
            "fit_seconds": timed.cost["cost/fit_seconds"],
            "cache_seconds": totals.seconds,
            "hits": totals.hits,
            "filled": totals.filled,
            "images": totals.images,
        }

    rows = []
    jobs = [(depth, seed, rate) for depth in depths for seed in seeds for rate in rates]
    for number, (depth, seed, rate) in enumerate(jobs):
        arguments = (f"freeze={depth}", f"seed={seed}", f"optimizer.lr={rate}")
        order = ("auto", "off") if number % 2 == 0 else ("off", "auto")
        both = {name: job(name, *arguments) for name in order}
        cached, uncached = both["auto"], both["off"]
        rows.append({"freeze": depth, "seed": seed, "lr": rate, "cached": cached, "uncached": uncached})
        seconds = f"cached {cached['seconds']:.1f} s, uncached {uncached['seconds']:.1f} s"
        say(f"job {number + 1}/{len(jobs)} {' '.join(arguments)}: {seconds}")
    further = []
    for depth in depths if 0 not in depths else list(depths)[1:]:
        for rate in RATES[: settings.chosen(5, 5, 2)]:
            again = job("require", f"freeze={depth}", "seed=7", f"optimizer.lr={rate}")
            further.append({"freeze": depth, "lr": rate, **again})
        say(f"five further rates at freeze={depth}: {sum(each['images'] for each in further)} images through a prefix")
    total = {name: sum(row[name]["seconds"] for row in rows) for name in ("cached", "uncached")}
    return {
        "jobs": rows,
        "epochs": epochs,
        "seconds": total,
        "uncached/cached": total["uncached"] / total["cached"],
        "further_rates": further,
    }


def table(results: Mapping[str, Any]) -> Table:
    """A row for each depth, then the sum, with what five further rates cost there."""
    rows: list[Sequence[str]] = []
    for depth in dict.fromkeys(row["freeze"] for row in results["jobs"]):
        here = [row for row in results["jobs"] if row["freeze"] == depth]
        cached, uncached = (sum(row[name]["seconds"] for row in here) for name in ("cached", "uncached"))
        further = [row for row in results["further_rates"] if row["freeze"] == depth]
        each = [f"{row['seconds']:.1f}" for row in further]
        facts = [str(sum(row[name] for row in further)) for name in ("hits", "filled", "images")]
        row = (str(depth), str(len(here)), f"{uncached:,.1f}", f"{cached:,.1f}", f"{uncached / cached:.1f}")
        rows.append((*row, " ".join(each) or "–", " / ".join(facts) if further else "–"))
    total = results["seconds"]
    last = ("all", str(len(results["jobs"])), f"{total['uncached']:,.1f}", f"{total['cached']:,.1f}")
    rows.append((*last, f"{results['uncached/cached']:.1f}", "", ""))
    columns = ("freeze", "jobs", "uncached, s", "cached, s", "times as fast", "further rates, s each")
    title = f"Sweep over freeze depths, seeds and learning rates, {results['epochs']} epochs a job"
    return Table(title, (*columns, "their hits / filled / images through a prefix"), rows)
