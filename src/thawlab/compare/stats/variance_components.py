"""The variance of a mean over seeds and over test samples, and how far a few seeds let it be known.

A run's metric varies with its seed (variance σ_s²), with the samples it is tested on (σ_n² / N), and with both
together (σ_sn² / N: which samples it gets wrong). The mean of S runs on the same N samples has the variance

    σ_s² / S + σ_n² / N + σ_sn² / (S N)

(Owen 2007, The pigeonhole bootstrap). Drawing seeds and samples with replacement would estimate the first term too
small by (S − 1) / S and count the third up to three times, so the terms are taken apart: a bootstrap of the samples
alone gives the second and the third, the sample variance of the runs, which is unbiased, the first and the third.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log, sqrt
from typing import Self

import numpy as np
from scipy import optimize, special

_LEAST_P = 1e-15  # below it, quantiles are not to be trusted
_CLOSE = float(special.chdtri(1, 0.5))  # half of all pairs of runs are closer, in units of what samples alone make
_OF_CLOSE = 0.8  # of the variance over samples, for two runs as close as that


@dataclass(frozen=True)
class Variance:
    """Variance of a mean over runs, or of a difference of two.

    Attributes:
        runs: sample variance of the runs' metric over S: estimates σ_s² / S + σ_sn² / (S N). 0 with one run.
        samples: bootstrap variance over the samples: estimates σ_n² / N + σ_sn² / (S N).
        both: what the two have in common, σ_sn² / (S N).
        runs_df: degrees of freedom of `runs`: S − 1, or Welch's.
        samples_df: degrees of freedom of `samples`: N − 1.
    """

    runs: float
    samples: float
    both: float
    runs_df: float
    samples_df: float

    @property
    def seeds(self) -> float:
        """Estimate of σ_s² / S, cut off at 0."""
        return max(self.runs - self.both, 0.0)

    @property
    def total(self) -> float:
        """Estimate of the whole variance."""
        return self.seeds + self.samples

    def half(self, alpha: float) -> float:
        """Half the width of a 1 − alpha interval: the root of the squares of what it would be from either source alone.

        √(t²(samples_df) · samples + t²(runs_df) · seeds), as the halves of a sum of two independent estimates add up
        (Zou and Donner 2008). Each quantile widens its own source alone, so that two or three seeds make the interval
        wide where seeds matter, and only there. Satterthwaite's degrees of freedom for the sum would be too many: a
        variance that happens to come out small also makes its share small. Two runs have a rule of their own
        (`_sources`). How often 95 % intervals hold the truth: `benchmarks/coverage.py`.
        """
        of_samples, of_runs = self.quantiles(alpha / 2)
        samples, runs = self._sources
        return sqrt(of_samples**2 * samples + of_runs**2 * runs)

    @property
    def _sources(self) -> tuple[float, float]:
        """The variance that goes with the samples' quantile, and the one that goes with the runs'.

        With one degree of freedom, `seeds` is cut off at 0 in two thirds of all cases where seeds do not matter, and
        still in every eighth where they make up nine tenths of the variance: the interval would then be far too
        short. So `runs` counts whole there, unless the runs are closer to one another than half of all pairs are that
        differ by samples alone. Those get a little less than the interval over samples, since all others get a wider
        one. Where `samples` is 1.5 to 10 times `both`, 95 % intervals of normal means then hold the truth 91 to 97 %
        of the time whatever the seeds do; with `seeds` it is 88 to 97 %.
        """
        if self.runs_df != 1:
            return self.samples, self.seeds
        if self.runs < _CLOSE * self.both:
            return _OF_CLOSE * self.samples, 0.0
        return self.samples - self.both, self.runs

    def p_value(self, value: float) -> float:
        """The alpha at which the interval around a value ends at 0; not below 1e-15 where both sources matter."""
        samples, runs = self._sources
        if samples + runs == 0:
            return 1.0 if value == 0 else 0.0
        if runs == 0 or samples == 0:
            df = self.runs_df if samples == 0 else self.samples_df
            return float(2 * special.stdtr(df, -abs(value) / sqrt(samples + runs)))
        if self.half(_LEAST_P) <= abs(value):
            return _LEAST_P
        found = optimize.brentq(lambda each: self.half(exp(each)) - abs(value), log(_LEAST_P), 0.0)
        return exp(float(found))  # type: ignore[arg-type]

    def quantiles(self, tail: float) -> tuple[float, float]:
        """Student's t that is exceeded with a probability: for the samples, and for the runs (0 with one run)."""
        # scipy.stats.t would take most of the time of a large comparison.
        of_runs = -float(special.stdtrit(self.runs_df, tail)) if self.runs_df > 0 else 0.0
        return -float(special.stdtrit(self.samples_df, tail)), of_runs

    def minus(self, other: Self, samples: float) -> "Variance":
        """Of the difference of two means with independent seeds.

        Args:
            other: of the mean that is taken away.
            samples: bootstrap variance of the difference, which knows that the samples are the same.
        """
        parts = [(each.runs, each.runs_df) for each in (self, other) if each.runs_df > 0]
        runs = sum(variance for variance, _ in parts)
        welch = runs**2 / sum(variance**2 / df for variance, df in parts) if runs > 0 else 0.0  # Welch (1947)
        df = welch or sum(df for _, df in parts)
        both = min(self.both + other.both, samples)
        return Variance(runs, samples, both, df, self.samples_df)

    def at_least(self, samples: float) -> "Variance":
        """The same, with a lower bound of the variance over samples."""
        return replace(self, samples=max(self.samples, samples))


def variance_of(values: np.ndarray, resampled: np.ndarray, samples: int) -> Variance:
    """Of the mean over a configuration's runs.

    Args:
        values: the metric of each run, (S,).
        resampled: the same on resamples of the samples, (S, R).
        samples: N.
    """
    runs, df = len(values), max(samples - 1, 1)
    together = over_samples(resampled.mean(axis=0), samples)
    if runs == 1:
        return Variance(0.0, together, 0.0, 0, df)
    single = float(np.mean([over_samples(run, samples) for run in resampled]))  # estimates (σ_n² + σ_sn²) / N
    both = min(max((single - together) / (runs - 1), 0.0), together)
    return Variance(float(np.var(values, ddof=1)) / runs, together, both, runs - 1, df)


def not_below_the_usual(variances: Sequence[Variance]) -> tuple[Variance, ...]:
    """Raise the runs' variance of configurations to what is usual among all, for comparing them with one another.

    Of several configurations with two or three runs, some have runs that happen to lie close together; the pairs of
    these would be told apart far too often (28 % false alarms among eight configurations with two runs each, at 5 %).
    What is usual is the upper quartile of the variances over that of chi-squared: an estimate that single
    configurations with wild seeds do not move, and that does not go by the calm ones where half are wild. Its degrees
    of freedom are taken as half of all. Those above it keep their variance, and get half as many degrees of freedom
    again, as the others say something of how far seeds can spread: with three runs one wild configuration would
    otherwise never be told from any other after a correction for a hundred pairs. Fewer than three configurations
    with runs to spare stay as they are.
    """
    known = [each for each in variances if each.runs_df > 0]
    if len(known) < 3:
        return tuple(variances)
    single = [each.runs * (each.runs_df + 1) * each.runs_df / special.chdtri(each.runs_df, 0.25) for each in known]
    usual, df = float(np.quantile(single, 0.75)), sum(each.runs_df for each in known) / 2

    def raised(each: Variance) -> Variance:
        least = usual / (each.runs_df + 1)
        if each.runs_df == 0:
            return each
        if each.runs >= least:
            return replace(each, runs_df=max(each.runs_df, min(1.5 * each.runs_df, df)))
        return replace(each, runs=least, runs_df=max(each.runs_df, df))

    return tuple(raised(each) for each in variances)


def over_samples(resampled: np.ndarray, samples: int) -> float:
    """Variance of a mean over N samples from its values on resamples, (R,); theirs is too small by (N − 1) / N."""
    return float(np.var(resampled, ddof=1)) * samples / max(samples - 1, 1)
