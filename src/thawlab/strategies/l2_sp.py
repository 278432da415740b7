"""L2-SP: fine-tuning that is pulled back to the source's weights, instead of to zero as weight decay does."""

from typing import Literal

from pydantic import Field

from thawlab.config.schema import Section
from thawlab.strategies.phases import Layers, Phase, head_group, require_stages, stage_groups

PAPER = "Li et al. 2018, arXiv:1802.01483"


class Settings(Section):
    """Settings of the strategy."""

    name: Literal["l2_sp"]
    backbone_lr_scale: float = Field(gt=0)
    alpha: float = Field(ge=0)
    beta: float = Field(ge=0)


def phases(layers: Layers, settings: Settings, epochs: int) -> list[Phase]:
    """One phase over the head and all stages above the freeze depth."""
    require_transferred(layers, settings.name)
    groups = (*stage_groups(layers, settings.backbone_lr_scale), head_group(layers))
    return [Phase("l2_sp", epochs, groups, regularisers=(settings,))]


def require_transferred(layers: Layers, strategy: str) -> None:
    """Refuse depths that leave no stage which both starts from the source's weights and is trained.

    Raises:
        ValueError: there is nothing to hold on to.
    """
    require_stages(layers, strategy)
    trained = {name for stage in layers.trainable for name in stage.parameters}
    if not layers.transferred & trained:
        raise ValueError(
            f"strategy={strategy}: it holds on to weights of the source, and no stage above the freeze depth keeps "
            "any; use a transfer depth above the freeze depth, or strategy=finetune"
        )
