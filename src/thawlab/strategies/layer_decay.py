"""Layer-wise learning rates: the further a stage is below the head, the smaller its rate.

Two rules of the field, in one phase: a constant ratio per stage (Clark et al., and timm's `layer_decay`), or rates that
grow geometrically from one end of what is trained to the other (fastai's `slice`).
"""

from typing import Annotated, Literal

from pydantic import Field

from thawlab.config.schema import Section
from thawlab.strategies.phases import Layers, ParameterGroup, Phase, head_group, require_stages

PAPER = "Clark et al. 2020, arXiv:2003.10555"


class Settings(Section):
    """Settings of the strategy."""

    name: Literal["layer_decay"]
    decay: float = Field(gt=0, le=1)
    slice: Annotated[float, Field(gt=1)] | None


def phases(layers: Layers, settings: Settings, epochs: int) -> list[Phase]:
    """One phase over the head and all stages above the freeze depth."""
    require_stages(layers, settings.name)
    if settings.slice is None:
        groups = decaying_groups(layers, settings.decay)
    else:
        groups = sliced_groups(layers, 1.0, settings.slice)
    return [Phase("layer_decay", epochs, groups)]


def decaying_groups(layers: Layers, decay: float) -> tuple[ParameterGroup, ...]:
    """Head 1, stage K decay, stage K-1 decay², …: a stage's rate is the same at every freeze depth."""
    count = len(layers.stages)
    return (
        *(
            ParameterGroup(stage.name, stage.parameters, decay ** (count - index))
            for index, stage in enumerate(layers.stages)
            if index >= layers.frozen and stage.parameters
        ),
        head_group(layers),
    )


def sliced_groups(layers: Layers, highest: float, ratio: float) -> tuple[ParameterGroup, ...]:
    """From highest / ratio for the lowest stage above the freeze depth to `highest` for the head, in equal factors."""
    stages = layers.trainable
    return (
        *(
            ParameterGroup(stage.name, stage.parameters, highest * ratio ** (index / len(stages) - 1))
            for index, stage in enumerate(stages)
        ),
        head_group(layers, highest),
    )
