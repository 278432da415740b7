"""How few images and steps are too few to rely on, for runs and comparisons alike, and which epoch is kept on these."""

from typing import Literal

FEW_VALIDATION = 50  # images: one of them moves val acc by two points
FEW_STEPS = 50  # of the optimizer, in all
FEW_OF_A_CLASS = 5  # training images

Rule = Literal["acc", "loss", "balanced_acc", "last"]


def rule_for(select: Literal["auto"] | Rule, images: int) -> Rule:
    """The rule for the epoch to keep that `trainer.select` comes to with so many validation images."""
    if select != "auto":
        return select
    return "acc" if images >= FEW_VALIDATION else "last"
