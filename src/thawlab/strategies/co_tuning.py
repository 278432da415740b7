"""Co-tuning: fine-tuning with a second loss on the source's classifier, which is kept and trained along.

Its targets are the source's classes that each target class looks like, as estimated before training.
"""

from typing import Literal

from pydantic import Field

from thawlab.config.schema import Section
from thawlab.strategies.phases import Layers, ParameterGroup, Phase, head_group, require_stages, stage_groups

PAPER = "You et al. 2020, NeurIPS"
EXTENSION = "source_classifier"
NEEDS_SOURCE_CLASSIFIER = True


class Settings(Section):
    """Settings of the strategy."""

    name: Literal["co_tuning"]
    backbone_lr_scale: float = Field(gt=0)
    strength: float = Field(ge=0)


def phases(layers: Layers, settings: Settings, epochs: int) -> list[Phase]:
    """One phase over both classifiers and all stages above the freeze depth."""
    groups = groups_with_source(layers, settings.backbone_lr_scale, settings.name)
    return [Phase("co_tuning", epochs, groups, regularisers=(settings,))]


def groups_with_source(layers: Layers, backbone_lr_scale: float, strategy: str) -> tuple[ParameterGroup, ...]:
    """All stages above the freeze depth and the source's classifier at the backbone's rate, and the head.

    Raises:
        ValueError: the source's classifier would sit on stages with random weights.
    """
    require_stages(layers, strategy)
    if layers.kept is not None and layers.kept < len(layers.stages):
        raise ValueError(
            f"strategy={strategy}: the source's classifier says nothing about stages with random weights; "
            "use transfer=all"
        )
    beside = (ParameterGroup(part.name, part.parameters, backbone_lr_scale) for part in layers.beside)
    return (*stage_groups(layers, backbone_lr_scale), *beside, head_group(layers))
