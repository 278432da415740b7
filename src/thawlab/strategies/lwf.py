"""Learning without forgetting: fine-tuning while the source's classifier goes on answering as it did before."""

from typing import Literal

from pydantic import Field

from thawlab.config.schema import Section
from thawlab.strategies.co_tuning import groups_with_source
from thawlab.strategies.phases import Layers, Phase

PAPER = "Li and Hoiem 2016, arXiv:1606.09282"
EXTENSION = "source_classifier"
NEEDS_SOURCE_CLASSIFIER = True


class Settings(Section):
    """Settings of the strategy."""

    name: Literal["lwf"]
    backbone_lr_scale: float = Field(gt=0)
    strength: float = Field(ge=0)
    temperature: float = Field(gt=0)


def phases(layers: Layers, settings: Settings, epochs: int) -> list[Phase]:
    """One phase over both classifiers and all stages above the freeze depth."""
    groups = groups_with_source(layers, settings.backbone_lr_scale, settings.name)
    return [Phase("lwf", epochs, groups, regularisers=(settings,))]
