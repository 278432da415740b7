"""What accuracy costs: which configurations no other beats in both the metric and a cost."""

from collections.abc import Mapping, Sequence

import numpy as np

COSTS = ("cost/trainable_params", "cost/seconds", "cost/peak_memory_mb")


def pareto(values: Sequence[float], costs: Sequence[float], higher_is_better: bool = True) -> list[bool]:
    """Whether each configuration lies on the front: no other is at least as good in both and better in one.

    What is nan in either is not on it.
    """
    good = np.asarray(values, dtype=np.float64) * (1 if higher_is_better else -1)
    cost = np.asarray(costs, dtype=np.float64)
    known = np.isfinite(good) & np.isfinite(cost)
    front = []
    for place in range(len(good)):
        as_good = known & (good >= good[place]) & (cost <= cost[place])
        better = (good > good[place]) | (cost < cost[place])
        front.append(bool(known[place]) and not bool((as_good & better).any()))
    return front


def fronts(
    values: Sequence[float], costs: Sequence[Mapping[str, float]], higher_is_better: bool
) -> list[frozenset[str]]:
    """Of each configuration the costs on whose front it lies; a cost that all share has no front."""
    found: list[set[str]] = [set() for _ in values]
    for name in COSTS:
        column = [each.get(name, np.nan) for each in costs]
        if len({value for value in column if np.isfinite(value)}) > 1:
            for place, on_front in enumerate(pareto(values, column, higher_is_better)):
                if on_front:
                    found[place].add(name)
    return [frozenset(each) for each in found]
