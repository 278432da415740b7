"""Batch spectral shrinkage: fine-tuning that shrinks the smallest singular values of a batch's features.

They belong to what of the source does not help the target: shrinking them lets the network let go of it.
"""

from typing import Literal

from pydantic import Field

from thawlab.config.schema import Section
from thawlab.strategies.phases import Layers, Phase, head_group, require_stages, stage_groups

PAPER = "Chen et al. 2019, NeurIPS"


class Settings(Section):
    """Settings of the strategy."""

    name: Literal["bss"]
    backbone_lr_scale: float = Field(gt=0)
    eta: float = Field(ge=0)
    smallest: int = Field(ge=1)


def phases(layers: Layers, settings: Settings, epochs: int) -> list[Phase]:
    """One phase over the head and all stages above the freeze depth."""
    require_stages(layers, settings.name)
    groups = (*stage_groups(layers, settings.backbone_lr_scale), head_group(layers))
    return [Phase("bss", epochs, groups, regularisers=(settings,))]
