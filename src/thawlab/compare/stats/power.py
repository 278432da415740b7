"""How many seeds or test samples a difference would take to show."""

from dataclasses import dataclass
from math import inf, nan

import numpy as np
from scipy import stats

from thawlab.compare.stats.bootstrap import Scores
from thawlab.compare.stats.intervals_and_tests import difference_variance

_LEAST = 0.01  # a smaller difference of shares is not worth planning for
_MOST_SEEDS = 1000


@dataclass(frozen=True)
class Needed:
    """What would be needed, each with the other as it is.

    Attributes:
        difference: the one that would show.
        seeds: runs of either configuration; inf if no number is enough on these samples, nan if the runs there are
            do not say how much seeds matter (one each).
        samples: test samples; inf if no number is enough with these seeds.
    """

    difference: float
    seeds: float
    samples: float


def needed(
    scores: Scores, first: int, second: int, difference: float | None = None, power: float = 0.8, alpha: float = 0.05
) -> Needed:
    """Roughly how many seeds, or how many test samples, would show a difference of two configurations.

    The usual formula, (t of 1 − alpha / 2 + t of power)² · variance ≤ difference², summed over the sources of variance,
    each with its own t as in the test: more seeds divide what comes from seeds, more samples what comes from samples.
    They are estimates, and from few seeds rough ones: the numbers are given in two digits.

    Args:
        scores: from `score`.
        first: place of a configuration.
        second: place of the other.
        difference: of interest; without one the observed, for shares at least one point.
        power: probability that it shows.
        alpha: two-sided level of the test, after any correction for being one of many.
    """
    if difference is None:
        observed = abs(float(scores.means[first] - scores.means[second]))
        difference = max(observed, _LEAST) if scores.share else observed
    found, runs = difference_variance(scores, first, second), [len(scores.values[k]) for k in (first, second)]
    if difference == 0:
        return Needed(difference, nan if max(runs) == 1 else inf, inf)

    def quantiles(df: np.ndarray | float) -> np.ndarray:
        return np.asarray(stats.t.ppf(1 - alpha / 2, df) + stats.t.ppf(power, df)) ** 2

    of_samples, seeds = quantiles(found.samples_df), nan
    if max(runs) > 1:
        counts = np.arange(2, _MOST_SEEDS)
        apart, both = (each * np.mean(runs) / counts for each in (found.seeds, found.both))
        df = found.runs_df * (counts - 1) / (np.mean(runs) - 1)
        squared = of_samples * (found.samples - found.both + both) + quantiles(df) * apart
        seeds = _first(counts, squared <= difference**2)
    left = difference**2 - (float(quantiles(found.runs_df)) * found.seeds if found.seeds else 0.0)
    samples = scores.samples * float(of_samples) * found.samples / left if left > 0 else inf
    return Needed(difference, seeds, _two_digits(samples))


def _first(counts: np.ndarray, enough: np.ndarray) -> float:
    return float(counts[np.argmax(enough)]) if enough.any() else inf


def _two_digits(number: float) -> float:
    return float(f"{number:.2g}") if np.isfinite(number) else number
