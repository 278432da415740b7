"""What the plots say of a row: whether it is the best, like it or not, and what stands under the pointer."""

from collections.abc import Sequence

from thawlab.compare.comparison import Comparison
from thawlab.compare.plots import palette
from thawlab.compare.plots.plotly_style import safe
from thawlab.compare.wording import formats
from thawlab.compare.wording.table_columns import row_label


def hover(comparison: Comparison, place: int, *more: str) -> str:
    """What is said of a row under the pointer: its numbers, and the runs that they come from."""
    row = comparison.rows[place]
    estimate, percent = row.estimate, comparison.percent
    runs = row.configuration.runs
    ids = [run.run_id[:8] for run in runs[:4]] + ["…"] * (len(runs) > 4)
    value = f"{formats.amount(estimate.mean, percent)} {formats.interval(estimate.low, estimate.high, percent)}"
    lines = [f"{place + 1}  {row_label(comparison, place)}", value, *more, f"{len(runs)} runs: {', '.join(ids)}"]
    return "<br>".join(safe(line) for line in lines)


def status_groups(comparison: Comparison, among: Sequence[int] | None = None) -> list[tuple[str, str, str, list[int]]]:
    """Places by whether they are the best, like it, or not: name, colour, mark, places; empty groups are left out."""
    places = range(len(comparison.rows)) if among is None else among
    rows = comparison.rows
    groups = [
        ("best", palette.BEST, "star", [place for place in places if rows[place].is_best]),
        (
            "not distinguishable from it",
            palette.LEVEL_WITH_BEST,
            "circle",
            [place for place in places if not rows[place].is_best and not rows[place].distinguishable],
        ),
        (
            "different from it",
            palette.REST,
            "diamond",
            [place for place in places if not rows[place].is_best and rows[place].distinguishable],
        ),
    ]
    return [group for group in groups if group[3]]
