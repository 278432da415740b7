"""Whether the statistics of a comparison keep their promises: simulated runs whose expected accuracy is known.

A run gets a sample right where a latent normal value is above a threshold (a probit model with random effects). The
value is made of the sample's difficulty, which all runs share in part, and of the run's own chance; the threshold
moves with the seed. With the shares here runs of one configuration agree on about 94 of 100 samples at 90 % accuracy.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import numpy as np
from scipy import stats

from common import Settings, Table, say
from thawlab.compare.stats.bootstrap import Scores, score
from thawlab.compare.stats.holm import ALPHA, not_distinguishable
from thawlab.compare.stats.intervals_and_tests import difference, estimate, pairs
from thawlab.metrics import Predictions

_DIFFICULTY = 0.9  # share of the latent variance that the runs of a configuration have in common
_COMMON = 0.9  # share of that which configurations have in common
_RUNS, _SAMPLES, _ACCURACIES, _SDS = (2, 3, 5, 10), (200, 1000, 5000), (0.6, 0.9, 0.97), (0.0, 0.005, 0.02)
_GAP = 0.02  # of the accuracies whose difference is estimated
_MANY = 8  # configurations that are compared with one another
_STEP = 0.005  # between the accuracies of those of which one is the best
_UNEQUAL = {"false alarms, half calm": _MANY // 2, "false alarms, one wild": _MANY - 1}
_KINDS = ("mean", "difference", "false alarms", *_UNEQUAL, "best in set")
_AT_ONCE = 2**24  # runs × samples that are simulated in one go


@dataclass(frozen=True)
class Model:
    """Configurations on the same test samples.

    Attributes:
        accuracies: expected over seeds and samples, of each configuration.
        runs: of each configuration.
        samples: test samples.
        sd: of the accuracy between seeds, to first order.
        calm: leading configurations whose seeds move the accuracy by a tenth of that.
    """

    accuracies: tuple[float, ...]
    runs: int
    samples: int
    sd: float
    calm: int = 0

    def draw(self, rng: np.random.Generator) -> list[list[Predictions]]:
        """Fresh samples and fresh seeds."""
        middle = stats.norm.ppf(self.accuracies)
        calm = np.arange(len(middle)) < self.calm
        moves = np.where(calm, self.sd / 10, self.sd) / stats.norm.pdf(middle)
        threshold = middle * np.sqrt(1 + moves**2)  # so that the mean over the seeds is the accuracy
        shape = (len(self.accuracies), self.runs)
        common = rng.standard_normal(self.samples, np.float32)
        own = rng.standard_normal((len(self.accuracies), 1, self.samples), np.float32)
        difficulty = sqrt(_COMMON) * common + sqrt(1 - _COMMON) * own
        chance = rng.standard_normal((*shape, self.samples), np.float32)
        seeds = threshold[:, None] + moves[:, None] * rng.standard_normal(shape)
        latent = sqrt(_DIFFICULTY) * difficulty + sqrt(1 - _DIFFICULTY) * chance  # (configurations, runs, N)
        wrong = (latent < -seeds[..., None]).astype(np.int8)
        labels = np.zeros(self.samples, np.int8)
        return [[Predictions(labels, run) for run in configuration] for configuration in wrong]

    def many(self, times: int) -> Iterator[tuple[Scores, int]]:
        """So many independent draws: the scores of some of them at once, and the place where each begins."""
        rng = np.random.default_rng(0)
        size = max(1, _AT_ONCE // (len(self.accuracies) * self.runs * self.samples))
        for begun in range(0, times, size):
            draws = range(min(size, times - begun))
            scores = score("test/acc", [each for _ in draws for each in self.draw(rng)], 1000, seed=begun)
            yield from ((scores, number * len(self.accuracies)) for number in draws)


def measure(settings: Settings) -> dict[str, Any]:
    """Coverage of the intervals, false alarms, and whether the best is in the set of the best."""
    times = settings.chosen(10_000, 300, 20)
    samples, runs = settings.chosen(_SAMPLES, _SAMPLES[:2], _SAMPLES[:1]), settings.chosen(_RUNS, _RUNS[:3], _RUNS[:2])
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in _KINDS}
    for accuracy, count, sd, seeds in itertools.product(_ACCURACIES, samples, _SDS, runs):
        model = Model((accuracy,), seeds, count, sd)
        found["mean"].append(_row(model, _covered(model, times)))
    say("intervals of the mean: done")
    for count, sd, seeds in itertools.product(samples, _SDS, runs):
        model = Model((0.9, 0.9 - _GAP), seeds, count, sd)
        found["difference"].append(_row(model, _difference_covered(model, times)))
    say("intervals of the difference: done")
    for sd, seeds in itertools.product(_SDS, runs[:3]):
        equal = Model((0.9,) * _MANY, seeds, samples[len(samples) // 2], sd)
        found["false alarms"].append(_row(equal, _alarmed(equal, times)))
        if sd == _SDS[-1]:
            for kind, calm in _UNEQUAL.items():
                found[kind].append(_row(equal, _alarmed(replace(equal, calm=calm), times)))
        steps = Model(tuple(0.9 - _STEP * place for place in range(_MANY)), seeds, equal.samples, sd)
        inside, size = _best_kept(steps, times)
        found["best in set"].append({**_row(steps, inside), "size": size})
    return {"times": times, **found}


def _row(model: Model, share: float) -> dict[str, float]:
    about = {"accuracy": model.accuracies[0], "samples": model.samples, "sd": model.sd, "runs": model.runs}
    return {**about, "percent": 100 * share}


def _covered(model: Model, times: int) -> float:
    truth = model.accuracies[0]
    found = [estimate(scores, place) for scores, place in model.many(times)]
    return float(np.mean([each.low <= truth <= each.high for each in found]))


def _difference_covered(model: Model, times: int) -> float:
    truth = model.accuracies[0] - model.accuracies[1]
    found = [difference(_part(scores, place, 2), 0, 1) for scores, place in model.many(times)]
    return float(np.mean([each.low <= truth <= each.high for each in found]))


def _alarmed(model: Model, times: int) -> float:
    """How often any of the pairs of equal configurations is told apart."""
    found = [pairs(_part(scores, place)) for scores, place in model.many(times)]
    return float(np.mean([min(pair.difference.p_holm for pair in each) < ALPHA for each in found]))


def _best_kept(model: Model, times: int) -> tuple[float, float]:
    """How often the truly best, the first, is in the set; and how large that is on average."""
    parts = (_part(scores, place) for scores, place in model.many(times))
    sets = [not_distinguishable(each.means.tolist(), pairs(each)) for each in parts]
    return float(np.mean([0 in each for each in sets])), float(np.mean([len(each) for each in sets]))


def _part(scores: Scores, place: int, size: int = _MANY) -> Scores:
    """The configurations of one draw."""
    those = slice(place, place + size)
    return Scores(scores.metric, scores.values[those], scores.resampled[those], scores.samples, scores.right[those])


def table(results: Mapping[str, Any]) -> Table:
    """A row for each number of samples and spread of the seeds; of several accuracies the lowest and the highest."""
    runs = sorted({row["runs"] for kind in _KINDS for row in results[kind]})
    rows = []
    for kind in _KINDS:
        for samples, sd in sorted({(row["samples"], row["sd"]) for row in results[kind]}):
            those = [row for row in results[kind] if (row["samples"], row["sd"]) == (samples, sd)]
            cells = [_cell([row for row in those if row["runs"] == count]) for count in runs]
            rows.append((kind, f"{samples:,}", f"{100 * sd:g}", *cells))
    title = f"Statistics of a comparison, percent of {results['times']:,} simulations"
    return Table(title, ("", "samples", "sd of seeds, points", *(f"{count} seeds" for count in runs)), rows)


def _cell(rows: Sequence[Mapping[str, float]]) -> str:
    if not rows:
        return ""
    low, high = min(row["percent"] for row in rows), max(row["percent"] for row in rows)
    size = f" (set of {rows[0]['size']:.1f})" if "size" in rows[0] else ""
    return (f"{low:.1f}" if len(rows) == 1 else f"{low:.1f}–{high:.1f}") + size
