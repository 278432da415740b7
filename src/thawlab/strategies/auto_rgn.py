"""Auto-RGN: every stage is trained, at a rate scaled each epoch by the size of its gradient beside its weights."""

from typing import Literal

from pydantic import Field

from thawlab.config.schema import Section
from thawlab.strategies.phases import Layers, Phase, head_group, require_stages, stage_groups

PAPER = "Lee et al. 2023, arXiv:2210.11466"


class Settings(Section):
    """Settings of the strategy."""

    name: Literal["auto_rgn"]
    backbone_lr_scale: float = Field(gt=0)


def phases(layers: Layers, settings: Settings, epochs: int) -> list[Phase]:
    """One phase over the head, at the full rate, and all stages above the freeze depth, at most at the backbone's."""
    require_stages(layers, settings.name)
    groups = (*stage_groups(layers, settings.backbone_lr_scale), head_group(layers))
    return [Phase("auto_rgn", epochs, groups, rates="relative_gradients")]
