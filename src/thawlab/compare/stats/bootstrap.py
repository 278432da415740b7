"""The metric of every run, and what it would have been on other test samples: the bootstrap that all pairs share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from thawlab.compare.stats.share_interval import accuracy_variance
from thawlab.compare.stats.variance_components import Variance, not_below_the_usual, variance_of
from thawlab.metrics import METRICS, Predictions, correct, from_predictions

# Weights of samples that are held at once: 64 MB.
_MOST_WEIGHTS = 2**24


@dataclass(frozen=True, eq=False)
class Scores:
    """A metric of all configurations on the same test samples.

    Attributes:
        metric: its name, one that predictions give.
        values: of each configuration, the metric of its runs, (S,).
        resampled: of each configuration, the same on every resample of the test samples, (S, R). Resample r draws
            the same samples for all runs, so that differences are paired.
        samples: how many test samples there are.
        right: of each configuration, which samples its runs get right, (S, N).
    """

    metric: str
    values: tuple[np.ndarray, ...]
    resampled: tuple[np.ndarray, ...]
    samples: int
    right: tuple[np.ndarray, ...]

    @property
    def share(self) -> bool:
        """Whether the metric lies in 0…1."""
        return METRICS[self.metric].scale == "share"

    @cached_property
    def means(self) -> np.ndarray:
        """Mean over the runs of each configuration, (configurations,)."""
        return np.array([values.mean() for values in self.values])

    @cached_property
    def resampled_means(self) -> np.ndarray:
        """The same on every resample, (configurations, R)."""
        return np.array([values.mean(axis=0) for values in self.resampled])

    @cached_property
    def variances(self) -> tuple[Variance, ...]:
        """Of the mean of each configuration."""
        both = zip(self.values, self.resampled, strict=True)
        found = tuple(variance_of(values, resampled, self.samples) for values, resampled in both)
        if self.metric != "test/acc":
            return found
        # Of one network it is known without resampling, as the network's run says it.
        return tuple(
            replace(each, samples=accuracy_variance(float(values[0]), self.samples)) if len(values) == 1 else each
            for each, values in zip(found, self.values, strict=True)
        )

    @cached_property
    def compared_variances(self) -> tuple[Variance, ...]:
        """The same, none below what is usual among them: for differences."""
        return not_below_the_usual(self.variances)


def score(metric: str, configurations: Sequence[Sequence[Predictions]], resamples: int = 2000, seed: int = 0) -> Scores:
    """Compute a metric of all runs, on the test samples and on bootstrap resamples of them.

    Args:
        metric: one that predictions give.
        configurations: of each, the predictions of its runs, all of the same samples in the same order.
        resamples: R; the standard errors from 2,000 are right within 2 %.
        seed: of the resampling.

    Raises:
        ValueError: if the metric cannot be had from predictions, a configuration has no run, or labels differ.
    """
    known = from_predictions()
    if metric not in known:
        raise ValueError(f"metric={metric}: cannot be had from predictions; use one of {', '.join(sorted(known))}")
    runs = [run for configuration in configurations for run in configuration]
    if not all(configurations) or any(not np.array_equal(run.labels, runs[0].labels) for run in runs):
        raise ValueError("every configuration needs a run, and all runs the same test samples in the same order")
    of, samples = known[metric], len(runs[0].labels)
    values = of(runs, np.ones((samples, 1)))[:, 0]  # (runs,)
    rng, block = np.random.default_rng(seed), max(1, _MOST_WEIGHTS // samples)
    sizes = [min(block, resamples - done) for done in range(0, resamples, block)]
    resampled = np.concatenate([of(runs, bootstrap_counts(rng, samples, size)) for size in sizes], axis=1)
    ends = np.cumsum([len(configuration) for configuration in configurations])[:-1]
    return Scores(
        metric,
        tuple(np.split(values, ends)),
        tuple(np.split(resampled.astype(np.float64), ends)),  # (S, R) each
        samples,
        tuple(np.stack([correct(run) for run in configuration]) for configuration in configurations),
    )


def bootstrap_counts(rng: np.random.Generator, samples: int, resamples: int) -> np.ndarray:
    """How often each sample is drawn when as many are drawn with replacement, (samples, resamples) float32."""
    drawn = rng.integers(samples, size=(samples, resamples), dtype=np.int64)
    drawn += np.arange(resamples) * samples
    counts = np.bincount(drawn.ravel(), minlength=samples * resamples)
    return np.ascontiguousarray(counts.reshape(resamples, samples).T, dtype=np.float32)
