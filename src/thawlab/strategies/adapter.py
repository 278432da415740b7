"""AdaptFormer: a small bottleneck beside each transformer block's MLP is trained, and the head."""

from typing import Literal

from pydantic import Field

from thawlab.config.schema import Section
from thawlab.strategies.phases import Layers, Phase, head_group, require_stages, stage_groups

PAPER = "Chen et al. 2022, arXiv:2205.13535"
EXTENSION = "adapter"


class Settings(Section):
    """Settings of the strategy."""

    name: Literal["adapter"]
    dim: int = Field(ge=1)
    scale: float = Field(gt=0)
    lr_scale: float = Field(gt=0)


def phases(layers: Layers, settings: Settings, epochs: int) -> list[Phase]:
    """One phase over what the extension added and the head."""
    require_stages(layers, settings.name)
    groups = stage_groups(layers, settings.lr_scale, lambda name: name in layers.added)
    return [Phase("adapter", epochs, (*groups, head_group(layers)), batch_norm="eval")]
