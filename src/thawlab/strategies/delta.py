"""DELTA: fine-tuning whose feature maps are held near the source's, the more so the more a channel matters.

How much each channel matters is measured on training images with a head that knows the classes: a logistic regression
comes first. Without `attention` all channels count alike, and the strategy has one phase.
"""

from typing import Literal

from pydantic import Field

from thawlab.strategies.l2_sp import require_transferred
from thawlab.strategies.linear_probe import LogisticSettings, solved
from thawlab.strategies.phases import Layers, Phase, head_group, split_epochs, stage_groups

PAPER = "Li et al. 2019, arXiv:1901.09229"


class Settings(LogisticSettings):
    """Settings of the strategy."""

    name: Literal["delta"]
    backbone_lr_scale: float = Field(gt=0)
    alpha: float = Field(ge=0)
    beta: float = Field(ge=0)
    attention: bool
    attention_images: int = Field(ge=1)


def phases(layers: Layers, settings: Settings, epochs: int) -> list[Phase]:
    """A linear probe, if attention is to be measured; then the head and all stages above the freeze depth."""
    require_transferred(layers, settings.name)
    groups = (*stage_groups(layers, settings.backbone_lr_scale), head_group(layers))
    if not settings.attention:
        return [Phase("delta", epochs, groups, regularisers=(settings,))]
    _, rest = split_epochs(epochs, 1, settings.name)
    return [solved(layers, settings), Phase("delta", rest, groups, regularisers=(settings,))]
