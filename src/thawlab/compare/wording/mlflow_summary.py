"""What MLflow's own page shows of a comparison: a few numbers and words."""

from math import isfinite

from thawlab.compare.comparison import Comparison
from thawlab.compare.wording.reference_row import best, ties


def summary_metrics(comparison: Comparison) -> dict[str, float]:
    """Numbers for the sweep's parent run; what is not known is left out."""
    place = best(comparison)
    counts = {
        "summary/configurations": float(len(comparison.rows)),
        "summary/runs": float(sum(len(row.values) for row in comparison.rows)),
        "summary/excluded": float(len(comparison.grouping.excluded)),
    }
    if place is None:
        return counts
    estimate = comparison.rows[place].estimate
    known = {
        "summary/best_mean": estimate.mean,
        "summary/best_low": estimate.low,
        "summary/best_high": estimate.high,
        "summary/best_sd": float("nan") if estimate.sd is None else estimate.sd,
        "summary/not_distinguishable": float(sum(not row.distinguishable for row in comparison.rows)),
    }
    return counts | {name: value for name, value in known.items() if isfinite(value)}


def summary_tags(comparison: Comparison) -> dict[str, str]:
    """Words for the sweep's parent run."""
    place = best(comparison)
    if place is None:
        return {}
    return {
        "summary.metric": comparison.metric,
        "summary.best": " = ".join(comparison.rows[each].configuration.label for each in ties(comparison)),
        "summary.conclusion": " ".join(comparison.conclusion),
    }
