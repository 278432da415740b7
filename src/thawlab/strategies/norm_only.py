"""Norm tuning: only the scales and biases of normalisation layers above the freeze depth, and the head, are trained."""

from typing import Literal

from pydantic import Field

from thawlab.config.schema import Section
from thawlab.strategies.phases import Layers, Phase, head_group, require_stages, stage_groups

PAPER = "Mudrakarta et al. 2019, arXiv:1810.10703"


class Settings(Section):
    """Settings of the strategy."""

    name: Literal["norm_only"]
    lr_scale: float = Field(gt=0)


def phases(layers: Layers, settings: Settings, epochs: int) -> list[Phase]:
    """One phase over the normalisation layers and the head.

    Raises:
        ValueError: there is no normalisation layer above the freeze depth.
    """
    require_stages(layers, settings.name)
    groups = stage_groups(layers, settings.lr_scale, lambda name: name in layers.norms)
    if not groups:
        raise ValueError(
            "strategy=norm_only: there is no normalisation layer above the freeze depth; freeze fewer stages, use "
            "another backbone, or strategy=linear_probe for the head alone"
        )
    return [Phase("norm_only", epochs, (*groups, head_group(layers)), batch_norm="eval")]
