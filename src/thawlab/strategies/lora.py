"""LoRA: a low-rank update beside the weights of each layer above the freeze depth is trained, and the head.

After training the updates are added to the weights, so that what is kept is a plain network again.
"""

from typing import Literal

from pydantic import Field

from thawlab.config.schema import Section, ShareBelowOne
from thawlab.strategies.phases import Layers, Phase, head_group, require_stages, stage_groups

PAPER = "Hu et al. 2021, arXiv:2106.09685"
EXTENSION = "lora"


class Settings(Section):
    """Settings of the strategy."""

    name: Literal["lora"]
    rank: int = Field(ge=1)
    alpha: float = Field(gt=0)
    dropout: ShareBelowOne
    targets: Literal["all", "linear", "conv"]
    lr_scale: float = Field(gt=0)


def phases(layers: Layers, settings: Settings, epochs: int) -> list[Phase]:
    """One phase over what the extension added and the head."""
    require_stages(layers, settings.name)
    groups = stage_groups(layers, settings.lr_scale, lambda name: name in layers.added)
    return [Phase("lora", epochs, (*groups, head_group(layers)), batch_norm="eval")]
