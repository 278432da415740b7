"""LP-FT: a linear probe first, then fine-tuning from its head, so that a random head does not distort the features.

As in the authors' code, BatchNorm uses its running statistics in both phases.
"""

from typing import Literal

from pydantic import Field

from thawlab.strategies.linear_probe import LogisticSettings, solved
from thawlab.strategies.phases import Layers, Phase, head_group, require_stages, split_epochs, stage_groups

PAPER = "Kumar et al. 2022, arXiv:2202.10054"


class Settings(LogisticSettings):
    """Settings of the strategy."""

    name: Literal["lp_ft"]
    solver: Literal["gradient", "lbfgs"]
    probe_epochs: int = Field(ge=1)
    probe_lr_scale: float = Field(gt=0)
    lr_scale: float = Field(gt=0)


def phases(layers: Layers, settings: Settings, epochs: int) -> list[Phase]:
    """The head alone; then the head and all stages above the freeze depth, at one small rate."""
    require_stages(layers, settings.name)
    solves = settings.solver == "lbfgs"
    first, rest = split_epochs(epochs, 1 if solves else settings.probe_epochs, settings.name)
    head = head_group(layers, settings.probe_lr_scale)
    probe = solved(layers, settings) if solves else Phase("linear_probe", first, (head,), batch_norm="eval")
    groups = (*stage_groups(layers, settings.lr_scale), head_group(layers, settings.lr_scale))
    return [probe, Phase("finetune", rest, groups, batch_norm="eval")]
