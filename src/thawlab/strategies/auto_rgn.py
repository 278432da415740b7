"""Auto-RGN: every stage is trained, at a rate scaled each epoch by the size of its gradient beside its weights."""

from typing import Literal

from thawlab.config import Section
from thawlab.strategies.phases import Layers, Phase, head_group, require_stages, stage_groups

PAPER = "Lee et al. 2023, arXiv:2210.11466"


class Settings(Section):
    """Settings of the strategy."""

    name: Literal["auto_rgn"]


def phases(layers: Layers, settings: Settings, epochs: int) -> list[Phase]:
    """One phase over the head and all stages above the freeze depth; the largest relative gradient gets rate 1."""
    require_stages(layers, settings.name)
    return [Phase("auto_rgn", epochs, (*stage_groups(layers, 1.0), head_group(layers)), rates="relative_gradients")]
