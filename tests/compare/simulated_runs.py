"""Runs that get these samples right and those wrong."""

from collections.abc import Iterator
from math import sqrt

import numpy as np
from scipy import stats

from thawlab.compare.stats.bootstrap import Scores, score
from thawlab.metrics import Predictions


def scores_of(*configurations: np.ndarray, resamples: int = 2000) -> Scores:
    """Accuracies of configurations that get these right, (S, N) each."""
    labels = np.zeros(configurations[0].shape[1], dtype=np.int64)
    runs = [[Predictions(labels, (~run).astype(np.int64)) for run in each] for each in configurations]
    return score("test/acc", runs, resamples=resamples)


def simulated(
    rng: np.random.Generator, shares: tuple[float, ...], runs: int, samples: int, sd: float = 0.0
) -> Iterator[np.ndarray]:
    """Configurations with these expected shares (if sd is 0), (S, N) each, that find the same samples hard."""
    common = rng.normal(size=samples)
    for threshold in stats.norm.ppf(shares):
        own, chance = rng.normal(size=samples), rng.normal(size=(runs, samples))
        move = rng.normal(size=(runs, 1)) * sd / stats.norm.pdf(threshold)
        yield sqrt(0.81) * common + sqrt(0.09) * own + sqrt(0.1) * chance < threshold + move
