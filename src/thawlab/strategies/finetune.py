"""Fine-tuning: one phase in which the head and every stage above the freeze depth are trained."""

from typing import Literal

from pydantic import Field

from thawlab.config.schema import Section
from thawlab.strategies.phases import Layers, Phase, head_group, stage_groups

PAPER = "Yosinski et al. 2014, arXiv:1411.1792"


class Settings(Section):
    """Settings of the strategy."""

    name: Literal["finetune"]
    backbone_lr_scale: float = Field(gt=0)


def phases(layers: Layers, settings: Settings, epochs: int) -> list[Phase]:
    """One phase with a group for the head and one for each stage that is not frozen."""
    return [Phase("finetune", epochs, (*stage_groups(layers, settings.backbone_lr_scale), head_group(layers)))]
