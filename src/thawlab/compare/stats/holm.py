"""Many comparisons at once: Holm's correction, and which configurations may be the best."""

import gc
from collections.abc import Sequence

import numpy as np
from statsmodels.stats.multitest import multipletests

from thawlab.compare.comparison import Pair

ALPHA = 0.05


def holm(ps: Sequence[float]) -> np.ndarray:
    """Adjust p-values for being many (Holm 1979); nan stays nan and does not count as one of them."""
    adjusted = np.array(ps, dtype=np.float64)
    known = ~np.isnan(adjusted)
    if known.any():
        # multipletests collects garbage; it need not look through all that was there before (half a second).
        gc.freeze()
        try:
            adjusted[known] = multipletests(adjusted[known], method="holm")[1]
        finally:
            gc.unfreeze()
    return adjusted


def not_distinguishable(means: Sequence[float], pairs: Sequence[Pair], higher_is_better: bool = True) -> frozenset[int]:
    """Places of the configurations that may be the best: the one with the best mean, and those not told from it.

    Which has the best mean is chance too, so the p-values must be corrected over all pairs, not only over those with
    the one that happened to win: then any wrong claim among them has a probability of at most 5 %, and the truly best
    is left out no more often. A pair without a p-value cannot be told apart.

    Args:
        means: of each configuration; nan is not the best and may not be.
        pairs: all of them, with `p_holm`.
        higher_is_better: the direction of the metric.
    """
    best = best_of(means, higher_is_better)
    told = {
        pair.first if pair.second == best else pair.second
        for pair in pairs
        if best in (pair.first, pair.second) and pair.difference.p_holm < ALPHA
    }
    return frozenset(place for place, mean in enumerate(means) if place not in told and not np.isnan(mean))


def best_of(means: Sequence[float], higher_is_better: bool) -> int:
    """Place of the best mean, the first of equals."""
    return int(np.nanargmax(means) if higher_is_better else np.nanargmin(means))
