"""Fine-tuning: one phase in which the head and every stage above the freeze depth are trained."""

from typing import Literal

from pydantic import Field

from thawlab.config import Section
from thawlab.strategies.phases import Layers, ParameterGroup, Phase


class Settings(Section):
    """Settings of the strategy."""

    name: Literal["finetune"]
    backbone_lr_scale: float = Field(gt=0)


def phases(layers: Layers, settings: Settings, epochs: int) -> list[Phase]:
    """One phase with a group for the head and one for each stage that is not frozen."""
    trained = tuple(
        ParameterGroup(stage.name, stage.parameters, settings.backbone_lr_scale) for stage in layers.trainable
    )
    return [Phase("finetune", epochs, (*trained, ParameterGroup("head", layers.head, 1.0)))]
