"""BitFit: only the biases above the freeze depth and the head are trained."""

from typing import Literal

from pydantic import Field

from thawlab.config.schema import Section
from thawlab.strategies.phases import Layers, Phase, head_group, require_stages, stage_groups

PAPER = "Ben Zaken et al. 2022, arXiv:2106.10199"


class Settings(Section):
    """Settings of the strategy."""

    name: Literal["bitfit"]
    lr_scale: float = Field(gt=0)


def phases(layers: Layers, settings: Settings, epochs: int) -> list[Phase]:
    """One phase over the biases, those of normalisation layers included, and the head.

    Raises:
        ValueError: no layer above the freeze depth has a bias.
    """
    require_stages(layers, settings.name)
    groups = stage_groups(layers, settings.lr_scale, lambda name: is_bias(name) and name not in layers.added)
    if not groups:
        raise ValueError(
            "strategy=bitfit: no layer above the freeze depth has a bias; freeze fewer stages, use another backbone, "
            "or strategy=linear_probe for the head alone"
        )
    return [Phase("bitfit", epochs, (*groups, head_group(layers)), batch_norm="eval")]


def is_bias(name: str) -> bool:
    """Also timm's q_bias and v_bias; not a table of relative position biases, which is a weight of attention."""
    last = name.rpartition(".")[2]
    return last == "bias" or last.endswith("_bias")
