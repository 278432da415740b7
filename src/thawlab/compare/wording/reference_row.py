"""What the rows of a comparison are held against, and by how much they differ from it."""

from dataclasses import replace

from thawlab.compare.comparison import Comparison, Difference


def reference(comparison: Comparison) -> int | None:
    """Place of the baseline if one was asked for, else of the best row; None if there are no rows."""
    if comparison.baseline is not None:
        return comparison.baseline
    return best(comparison)


def reference_word(comparison: Comparison) -> str:
    """What `reference` is: `baseline` or `best`."""
    return "best" if comparison.baseline is None else "baseline"


def best(comparison: Comparison) -> int | None:
    """Place of the first row with the best mean; None if there are no rows."""
    return next(iter([*ties(comparison), *range(len(comparison.rows))]), None)


def ties(comparison: Comparison) -> list[int]:
    """Places of the rows that share the best mean."""
    return [place for place, row in enumerate(comparison.rows) if row.is_best]


def difference_from(comparison: Comparison, place: int, other: int | None) -> Difference | None:
    """The row at `place` minus the one at `other`, whichever way round the pair is kept; None without such a pair."""
    for pair in comparison.pairs:
        if (pair.first, pair.second) == (place, other):
            return pair.difference
        if (pair.first, pair.second) == (other, place):
            kept = pair.difference
            return replace(kept, value=-kept.value, low=-kept.high, high=-kept.low, effect=-kept.effect)
    return None
