"""Linear probe: one phase in which the head alone is trained, on features that never change."""

from typing import Literal

from pydantic import Field

from thawlab.config import Section
from thawlab.strategies.phases import Layers, ParameterGroup, Phase


class Settings(Section):
    """Settings of the strategy."""

    name: Literal["linear_probe"]
    lr_scale: float = Field(gt=0)


def phases(layers: Layers, settings: Settings, epochs: int) -> list[Phase]:
    """One phase with the head as its only group, whatever the freeze depth."""
    return [Phase("linear_probe", epochs, (ParameterGroup("head", layers.head, settings.lr_scale),))]
