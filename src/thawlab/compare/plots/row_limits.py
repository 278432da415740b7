"""Which rows a plot shows where it has no room for all of them."""

from collections.abc import Sequence

from thawlab.compare.comparison import Comparison

_CURVES = 10  # that can be told apart in one plot: seven colours, and dashes
_CURVES_NAMED = 20
_COMPARED = 12
_COMPARED_ON_PAPER = 4


def curve_places(comparison: Comparison) -> list[int]:
    """Places of the rows with learning curves; of many, the best and the worst."""
    places = [place for place, row in enumerate(comparison.rows) if any(row.curve.values())]
    return _with_the_worst(places, _CURVES_NAMED)


def drawn_curves(comparison: Comparison) -> list[int]:
    """Those of them that are drawn without being asked for: again the best, and the worst, which may differ most."""
    return _with_the_worst(curve_places(comparison), _CURVES)


def compared(comparison: Comparison, places: Sequence[int]) -> list[int]:
    """Rows that the best is held against one after the other: of many the next few, and some that differ from it."""
    near = list(places[: _COMPARED // 2])
    return near + _told_apart_first(comparison, places[len(near) :], _COMPARED - len(near))


def compared_on_paper(comparison: Comparison, places: Sequence[int]) -> list[int]:
    """A few of them, where all are seen at once: those that differ from the best, filled up with the next few."""
    return _told_apart_first(comparison, places, _COMPARED_ON_PAPER)


def _with_the_worst(places: Sequence[int], most: int) -> list[int]:
    return list(places) if len(places) <= most else [*places[: most - 1], places[-1]]


def _told_apart_first(comparison: Comparison, places: Sequence[int], most: int) -> list[int]:
    return sorted(sorted(places, key=lambda place: (not comparison.rows[place].distinguishable, place))[:most])
