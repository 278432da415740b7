"""Transplant: the experiment of Yosinski et al., copied stages below random ones, and its controls.

`transfer=k` says how many stages are copied; those above start from random weights. From the source they are copied
frozen (AnB) or tuned (AnB+). The controls BnB and BnB+ copy them from a network that was trained on the target itself,
`source=target`: what they lose against that network is due to splitting layers that had adapted to each other.
"""

from typing import Annotated, Literal

from pydantic import Field

from thawlab.config.schema import Section
from thawlab.strategies.phases import Layers, ParameterGroup, Phase, head_group, stage_groups
from thawlab.strategies.scratch import backbone, refuse_freezing

PAPER = "Yosinski et al. 2014, arXiv:1411.1792"


class Settings(Section):
    """Settings of the strategy."""

    name: Literal["transplant"]
    copied: Literal["frozen", "tuned"]
    source: Literal["pretrained", "target"]
    base_epochs: Annotated[int, Field(ge=1)] | None
    lr_scale: float = Field(gt=0)


def phases(layers: Layers, settings: Settings, epochs: int) -> list[Phase]:
    """Copied stages frozen or tuned, the others trained; before it, for `source=target`, the network to copy from.

    The epochs of that base network come on top.
    """
    way_out = "use freeze=0, transfer=k for what is copied and strategy.copied=frozen to hold it fixed"
    refuse_freezing(layers, f"strategy=transplant freezes what is copied by itself; {way_out}")
    kept = len(layers.stages) if layers.kept is None else layers.kept
    groups = _groups(layers, kept, settings)
    if settings.source == "pretrained":
        return [Phase("transplant", epochs, groups)]
    base = Phase(
        "base",
        settings.base_epochs or epochs,
        (*stage_groups(layers, 1.0), head_group(layers)),
        draw=(*backbone(layers), *layers.head),
        selectable=False,
    )
    return [base, Phase("transplant", epochs, groups, draw=(*backbone(layers, kept), *layers.head))]


def _groups(layers: Layers, kept: int, settings: Settings) -> tuple[ParameterGroup, ...]:
    """Copied stages get no group where they are frozen; random ones and the head get the full rate."""
    groups = [
        ParameterGroup(stage.name, stage.parameters, settings.lr_scale if index < kept else 1.0)
        for index, stage in enumerate(layers.stages)
        if stage.parameters and (index >= kept or settings.copied == "tuned")
    ]
    return (*groups, head_group(layers))
