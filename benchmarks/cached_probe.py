"""A linear probe by steps, 30 epochs in this process: from stored activations, which are made first, or from images.

`probe.py` measures what one types, with all start-up and records; this is what a GPU does in it.
"""

from collections.abc import Mapping
from typing import Any

from common import Settings, Table, fit, load_data, prepare, ratio, say, spread, with_cache

EPOCHS = 30
_RECIPE = ("strategy=linear_probe", "strategy.solver=gradient")


def measure(settings: Settings) -> dict[str, Any]:
    """The seconds of both, in turn: cached, uncached, cached, …

    Quick: the uncached one is timed on 3 epochs, and all later ones are taken to last as long as the second and third.
    """
    data = load_data(settings)
    epochs, timed_epochs, rounds = settings.chosen((EPOCHS, EPOCHS, 1), (EPOCHS, 3, 2), (2, 2, 1))
    found: dict[str, list[float]] = {"cached": [], "uncached": []}
    parts: list[dict[str, float]] = []

    def cached() -> None:
        cache = {"dir": str(settings.folder("cache")), "max_gb": 50}
        job = with_cache(settings.job(*_RECIPE, f"epochs={epochs}"), "require", **cache)
        timed = fit(job, prepare(job.config, data))
        totals = timed.cache.totals
        found["cached"].append(timed.seconds)
        parts.append(
            {
                "cache_seconds": totals.seconds,
                "of_that_filling": totals.filling,
                "fit_seconds": timed.cost["cost/fit_seconds"],
                "of_that_between_epochs": timed.watch.between() * epochs,
            }
        )
        say(f"cached, {epochs} epochs: {timed.seconds:.1f} s, {totals.seconds:.1f} s of them for the cache")

    def uncached() -> None:
        job = with_cache(settings.job(*_RECIPE, f"epochs={timed_epochs}"), "off")
        timed = fit(job, prepare(job.config, data))
        each = [end - epoch[0] for epoch, end in zip(timed.watch.epochs, timed.watch.ends, strict=True)]
        later = (sum(each) - each[0]) / (len(each) - 1)  # the first one decodes the images
        found["uncached"].append(timed.seconds + (epochs - timed_epochs) * later)
        say(f"uncached, {timed_epochs} epochs: {timed.seconds:.1f} s, the first {each[0]:.1f} s")

    cached()
    for _ in range(rounds):
        uncached()
        cached()
    # Each uncached run lies between two cached ones.
    around = [sum(pair) / 2 for pair in zip(found["cached"], found["cached"][1:], strict=False)]
    return {
        "seconds": found,
        "cached_parts": parts,
        "epochs": epochs,
        "uncached_epochs_timed": timed_epochs,
        "uncached/cached": ratio(found["uncached"], around),
    }


def table(results: Mapping[str, Any]) -> Table:
    """A row for each of the two."""
    middle = sorted(results["cached_parts"], key=lambda part: part["cache_seconds"])[len(results["cached_parts"]) // 2]
    cached, uncached = (sorted(values)[len(values) // 2] for values in results["seconds"].values())
    scaled = "" if results["epochs"] == results["uncached_epochs_timed"] else ", scaled up from fewer"
    filled = f"{middle['cache_seconds']:.1f} s cut, filling, checks; {middle['fit_seconds']:.1f} s training"
    rows = [
        ("cached", f"{cached:,.1f}", filled, spread(results["uncached/cached"], 1)),
        ("uncached", f"{uncached:,.1f}", f"{results['epochs']} epochs{scaled}", ""),
    ]
    return Table(
        f"Linear probe by steps, {results['epochs']} epochs, in one process",
        ("", "seconds", "of which", "times as fast"),
        rows,
    )
