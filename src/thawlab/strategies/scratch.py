"""Training from scratch: nothing of the source is used; the control that every transfer has to beat."""

from typing import Literal

from thawlab.config.schema import Section
from thawlab.strategies.phases import Layers, Phase, head_group, stage_groups

PAPER = "He et al. 2018, arXiv:1811.08883"


class Settings(Section):
    """Settings of the strategy."""

    name: Literal["scratch"]


def phases(layers: Layers, settings: Settings, epochs: int) -> list[Phase]:
    """One phase over everything, at one rate, from new random values."""
    refuse_freezing(layers, f"strategy={settings.name} trains everything from random weights; use freeze=0")
    if layers.kept not in (None, 0, len(layers.stages)):
        raise ValueError(
            f"transfer={max(layers.kept - 1, 0) or 'stem'}: strategy=scratch starts every stage from random weights; "
            "leave transfer out, or use strategy=finetune"
        )
    return [Phase("scratch", epochs, (*stage_groups(layers, 1.0), head_group(layers)), draw=backbone(layers))]


def backbone(layers: Layers, first: int = 0) -> tuple[str, ...]:
    """Names of all the backbone's parameters, or of those from a stage on."""
    return tuple(name for stage in layers.stages[first:] for name in stage.parameters)


def refuse_freezing(layers: Layers, why: str) -> None:
    """Refuse any freeze depth.

    Raises:
        ValueError: one is set.
    """
    if layers.frozen:
        raise ValueError(f"freeze={layers.frozen - 1 or 'stem'}: {why}")
