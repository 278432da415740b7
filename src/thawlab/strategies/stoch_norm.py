"""Stochastic normalisation: fine-tuning in which each BatchNorm channel is normalised, at random, by the batch or by
its running statistics.
"""

from typing import Literal

from pydantic import Field

from thawlab.config.schema import Section, Share
from thawlab.strategies.phases import Layers, Phase, head_group, require_stages, stage_groups

PAPER = "Kou et al. 2020, NeurIPS"
EXTENSION = "stoch_norm"


class Settings(Section):
    """Settings of the strategy."""

    name: Literal["stoch_norm"]
    backbone_lr_scale: float = Field(gt=0)
    probability: Share


def phases(layers: Layers, settings: Settings, epochs: int) -> list[Phase]:
    """One phase over the head and all stages above the freeze depth."""
    require_stages(layers, settings.name)
    return [Phase("stoch_norm", epochs, (*stage_groups(layers, settings.backbone_lr_scale), head_group(layers)))]
