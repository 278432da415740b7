"""How large a metric and a difference are, and how sure: over other seeds and other test samples.

From predictions, `score` (`bootstrap.py`) computes the metric of every run and resamples the test samples, once for all
configurations; `estimate`, `difference` and `pairs` read from that. Without predictions `seed_estimate`,
`seed_difference` and `seed_pairs` go by the runs' values alone. `holm.py` has Holm's correction and the set of
the best, `power.py` what a claim would need.

An interval takes in seeds and samples, each with its own Student's t (`variance_components.py`); with one run it covers
the samples only. Shares get Wilson's interval, which stays within 0…1 and is no point when everything is right; what is
positive, such as the loss, gets its interval on the logarithm; what may be below 0 gets the plain one.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from math import exp, nan, sqrt

import numpy as np
from scipy import special, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_effectsize

from thawlab.compare.comparison import Difference, Estimate, Pair
from thawlab.compare.stats.bootstrap import Scores
from thawlab.compare.stats.holm import holm
from thawlab.compare.stats.share_interval import LEVEL, wilson
from thawlab.compare.stats.variance_components import Variance, over_samples
from thawlab.metrics import METRICS


def estimate(scores: Scores, place: int) -> Estimate:
    """The expected metric of a configuration, over seeds and over the population of test samples.

    With one run the interval is that of this one network: it knows nothing of other seeds.

    Shares: Wilson's interval (`share_interval.py`). Positive metrics: mean · exp(± half / mean). Signed: mean ± half.

    Args:
        scores: from `score`.
        place: of the configuration.

    Example:
        >>> label = np.array([0, 0, 1, 1, 2, 2])
        >>> runs = [Predictions(label, np.array(predicted)) for predicted in ([0, 0, 1, 1, 2, 1], [0, 0, 1, 1, 2, 2])]
        >>> scores = score("test/acc", [runs, runs[:1]])
        >>> estimate(scores, 0).mean, difference(scores, 0, 1).value
    """
    values = scores.values[place]
    mean, found = float(values.mean()), scores.variances[place]
    sd = float(values.std(ddof=1)) if len(values) > 1 else None
    half = found.half(1 - LEVEL)
    if scores.share:
        t = half / sqrt(found.total) if found.total > 0 else found.quantiles((1 - LEVEL) / 2)[0]
        return Estimate(mean, sd, *wilson(mean, found.total, scores.samples, t))
    if METRICS[scores.metric].scale == "signed":
        return Estimate(mean, sd, mean - half, mean + half)
    factor = exp(half / mean) if mean > 0 else 1.0
    return Estimate(mean, sd, mean / factor, mean * factor)


def difference(scores: Scores, first: int, second: int) -> Difference:
    """The first configuration's metric minus the second's: paired over samples, seeds independent of one another.

    The interval and p come from the same variance, so p < 0.05 where the 95 % interval excludes 0. The
    exception is accuracy with one run each, where p is McNemar's exact one. A share's variance over samples is at
    least that of one sample in favour of each (Bonett and Price 2012), so that no interval is a point. The variance
    over seeds is at least what is usual among all configurations of `scores`, where they are three or more.

    The effect is Cohen's d, the difference over the pooled standard deviation of the runs, where both have at least
    two that differ. Otherwise it is Cohen's h for shares, 2 asin √a − 2 asin √b, and nan for others.
    """
    value = float(scores.means[first] - scores.means[second])
    found = difference_variance(scores, first, second)
    half = found.half(1 - LEVEL)
    p, test = found.p_value(value), "paired bootstrap"
    if scores.metric == "test/acc" and len(scores.values[first]) == len(scores.values[second]) == 1:
        p, test = _mcnemar(scores.right[first][0], scores.right[second][0]), "McNemar"
    effect, measure = _cohens_d(scores.values[first], scores.values[second]), "d"
    if np.isnan(effect) and scores.share:
        effect, measure = float(proportion_effectsize(*np.clip(scores.means[[first, second]], 0, 1))), "h"
    return Difference(value, value - half, value + half, p, p, effect, test, measure)


def difference_variance(scores: Scores, first: int, second: int) -> Variance:
    """The variance of the difference of two configurations' means."""
    apart = scores.resampled_means[first] - scores.resampled_means[second]  # (R,)
    one, other = scores.compared_variances[first], scores.compared_variances[second]
    found = one.minus(other, over_samples(apart, scores.samples))
    return found.at_least(2 / (scores.samples + 2) ** 2) if scores.share else found


def pairs(scores: Scores) -> tuple[Pair, ...]:
    """The differences of all pairs, with Holm's correction over them."""
    places = combinations(range(len(scores.values)), 2)
    return _corrected([Pair(first, second, difference(scores, first, second)) for first, second in places])


def seed_estimate(values: Sequence[float], share: bool = False) -> Estimate:
    """The expected metric over seeds, from the runs' values: Student's t interval.

    With one run there is no interval: both ends are nan. With runs that do not differ it is a point. The interval of a
    share ends at 0 and 1.
    """
    mean, runs = float(np.mean(values)), len(values)
    if runs == 1:
        return Estimate(mean, None, nan, nan)
    sd = float(np.std(values, ddof=1))
    half = float(special.stdtrit(runs - 1, (1 + LEVEL) / 2)) * sd / sqrt(runs)
    low, high = mean - half, mean + half
    return Estimate(mean, sd, *((max(low, 0.0), min(high, 1.0)) if share else (low, high)))


def seed_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """The first configuration's mean minus the second's, from the runs' values: Welch's t-test over seeds.

    Where it cannot tell, with one run on a side or with runs that do not differ on both, p and the ends are nan. The
    effect is Cohen's d, nan likewise.
    """
    value = float(np.mean(first) - np.mean(second))
    p = low = high = nan
    if min(len(first), len(second)) > 1 and max(np.ptp(first), np.ptp(second)) > 0:
        result = stats.ttest_ind(first, second, equal_var=False)
        interval = result.confidence_interval(LEVEL)
        p, low, high = float(result.pvalue), float(interval.low), float(interval.high)  # type: ignore[attr-defined]
    return Difference(value, low, high, p, p, _cohens_d(first, second), "t-test over seeds")


def seed_pairs(values: Sequence[Sequence[float]]) -> tuple[Pair, ...]:
    """As `pairs`, from the runs' values alone."""
    places = combinations(range(len(values)), 2)
    return _corrected([Pair(first, second, seed_difference(values[first], values[second])) for first, second in places])


def _corrected(found: Sequence[Pair]) -> tuple[Pair, ...]:
    adjusted = holm([pair.difference.p for pair in found])
    return tuple(
        replace(pair, difference=replace(pair.difference, p_holm=float(p)))
        for pair, p in zip(found, adjusted, strict=True)
    )


def _mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Exact p of two runs being right (N,) equally often."""
    table = [[np.sum(first & second), np.sum(first & ~second)], [np.sum(~first & second), np.sum(~first & ~second)]]
    return float(mcnemar(table, exact=True).pvalue)  # type: ignore[attr-defined]


def _cohens_d(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> float:
    """Difference over the pooled standard deviation; nan where there is none."""
    df = len(first) + len(second) - 2
    if min(len(first), len(second)) < 2:
        return nan
    pooled = sqrt(((len(first) - 1) * np.var(first, ddof=1) + (len(second) - 1) * np.var(second, ddof=1)) / df)
    return float((np.mean(first) - np.mean(second)) / pooled) if pooled > 0 else nan
