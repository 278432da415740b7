"""Which strength C of the logistic regressions is taken, told from the validation images; and how it is said."""

from collections.abc import Sequence

from thawlab.config.small_data import Rule
from thawlab.training.best_epoch import Best, measure, rank

_MEASURED = {"acc": "val acc", "balanced_acc": "val balanced acc", "loss": "val loss", "last": "val loss"}


def best_strength(rule: Rule, results: Sequence[Best]) -> int:
    """The position of the best one: of equals by the rule that of the lowest loss, and of those the smallest.

    Args:
        rule: which of two is the better one.
        results: on the validation images, from the smallest C to the largest; their `epoch` falls from 0.
    """
    return max(range(len(results)), key=lambda place: rank(rule, results[place]))


def in_words(rule: Rule, results: Sequence[Best], strengths: Sequence[float], best: int) -> str:
    """Why it is this one: what it was chosen by, which others are as good by that, whether it lies at an end.

    Args:
        rule: as in `best_strength`.
        results: as there.
        strengths: the values of C that belong to them.
        best: the position of the one that is taken.
    """
    mine, measured = f"C={strengths[best]:g}", _MEASURED[rule]
    if len(strengths) == 1:
        return f"{mine}, the only value in strategy.strengths"
    value = measure(rule, results[best])
    equals = [place for place, each in enumerate(results) if measure(rule, each) == value and place != best]
    if equals:
        others = ", ".join(f"{strengths[place]:g}" for place in equals)
        same_loss = any(results[place].loss == results[best].loss for place in equals)
        told = f"{mine} and {others} share the best {measured} of {len(strengths)} values of C; {mine} is taken, "
        told += "the smallest" if same_loss else "which has the lowest val loss"
    else:
        told = f"{mine} has the best {measured} of {len(strengths)} values of C"
    if best == 0:
        return f"{told}; it is the smallest of strategy.strengths, and a smaller one may be better"
    if best == len(strengths) - 1:
        return f"{told}; it is the largest of strategy.strengths, and a larger one may be better"
    return told
