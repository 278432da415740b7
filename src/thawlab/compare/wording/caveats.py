"""What limits a comparison, and what would be needed to go beyond it."""

import math
from collections.abc import Sequence

from thawlab.compare.comparison import Grouping, Row
from thawlab.compare.stats.bootstrap import Scores
from thawlab.compare.stats.holm import ALPHA
from thawlab.compare.stats.power import needed
from thawlab.compare.wording import formats
from thawlab.compare.wording.table_columns import factor_label, short_names

_FEW_SEEDS = 3


def notes(grouping: Grouping, rows: Sequence[Row], scores: Scores | None, metric: str) -> list[str]:
    """Sentences for the reader who wants to rely on it.

    Args:
        grouping: of the runs.
        rows: in the order of `scores`.
        scores: None if the metric was compared by the runs' values alone.
        metric: its name.
    """
    counts = [len(row.values) for row in rows]
    found = []
    if scores is None and rows:
        found.append(f"{metric} is compared by the runs' values alone, which say nothing of other test images")
    if counts and max(counts) == 1:
        known = "intervals and tests know of other test images only, not of other seeds"
        nothing = "without a second seed there is neither an interval nor a test"
        found.append(f"one run each: {nothing if scores is None else known}; add seed=0,1,2 to the sweep")
    elif counts and min(counts) < _FEW_SEEDS:
        fewest = sum(count < _FEW_SEEDS for count in counts)
        found.append(
            f"{fewest} of {len(counts)} configurations have fewer than {_FEW_SEEDS} seeds: wide intervals, and up to "
            "10 % false alarms where seeds move some configurations ten times as far as others"
        )
    if grouping.pooled:
        found.append(
            f"runs of one configuration differ in {', '.join(grouping.pooled)} as well, which was not asked for"
        )
    if scores is not None:
        found += _needed(rows, scores, grouping.factors)
    return found


def _needed(rows: Sequence[Row], scores: Scores, factors: Sequence[str]) -> list[str]:
    """What it would take to tell the best from the one that is furthest from it of those that may be as good."""
    best = next((place for place, row in enumerate(rows) if row.is_best), None)
    alike = [place for place, row in enumerate(rows) if not row.distinguishable and not row.is_best]
    if best is None or not alike:
        return []
    other = max(alike, key=lambda place: abs(scores.means[place] - scores.means[best]))
    # What is told apart is told after Holm's correction, which holds the smallest p against this level.
    plan = needed(scores, best, other, alpha=ALPHA / math.comb(len(rows), 2))
    ways = []
    if math.isfinite(plan.seeds):
        ways.append(f"{plan.seeds:,.0f} seeds of each on these images")
    if math.isfinite(plan.samples) and plan.samples > scores.samples:
        ways.append(f"{plan.samples:,.0f} test images (now {scores.samples:,}) with these seeds")
    size = formats.difference(plan.difference, scores.share).removeprefix("+") + (" points" if scores.share else "")
    short = short_names(factors)
    names = " and ".join(factor_label(rows[place].configuration, factors, short) for place in (best, other))
    if not ways:
        return [f"to tell {names} apart by {size}, both more seeds and more test images are needed"]
    return [f"to tell {names} apart by {size} would take about {' or '.join(ways)} (power 80 %)"]
