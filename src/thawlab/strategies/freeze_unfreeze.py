"""Freeze, then unfreeze: fastai's `fine_tune`, first the head alone, then everything above the freeze depth.

The rates, the shape of both one-cycle schedules and the momentum that moves against the rate are those of
`Learner.fine_tune`. One difference: there BatchNorm layers of the frozen backbone are trained; here frozen is frozen.
"""

from typing import Literal

from pydantic import Field

from thawlab.config.schema import Section
from thawlab.strategies.layer_decay import sliced_groups
from thawlab.strategies.phases import Layers, Phase, Schedule, head_group, require_stages, split_epochs

PAPER = "Howard and Gugger 2020, arXiv:2002.04688"

# fit_one_cycle: div=25 (5 once unfrozen) and div_final=1e5, both shares of the highest rate.
_FREEZE = Schedule("onecycle", warmup=0.99, final=1e-5, start=1 / 25, cycle_momentum=True)
_UNFREEZE = Schedule("onecycle", warmup=0.3, final=1e-5, start=1 / 5, cycle_momentum=True)


class Settings(Section):
    """Settings of the strategy."""

    name: Literal["freeze_unfreeze"]
    freeze_epochs: int = Field(ge=1)
    unfreeze_lr_scale: float = Field(gt=0)
    slice: float = Field(gt=1)


def phases(layers: Layers, settings: Settings, epochs: int) -> list[Phase]:
    """The head alone; then all, from `unfreeze_lr_scale / slice` for the lowest stage to `unfreeze_lr_scale`."""
    require_stages(layers, settings.name)
    first, rest = split_epochs(epochs, settings.freeze_epochs, settings.name)
    groups = sliced_groups(layers, settings.unfreeze_lr_scale, settings.slice)
    return [
        Phase("freeze", first, (head_group(layers),), schedule=_FREEZE),
        Phase("unfreeze", rest, groups, schedule=_UNFREEZE),
    ]
