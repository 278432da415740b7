"""Gradual unfreezing: the head alone, then one more stage a phase from the top down, each at a smaller rate than the
one above it (ULMFiT).

With fewer epochs than phases several stages thaw together. Each phase has a slanted triangular schedule of its own.
"""

from typing import Literal

from pydantic import Field

from thawlab.config.schema import Section
from thawlab.strategies.phases import Layers, ParameterGroup, Phase, Schedule, head_group, require_stages, split_epochs

PAPER = "Howard and Ruder 2018, arXiv:1801.06146"

# The paper's cut_frac = 0.1 and ratio = 32.
_SLANTED_TRIANGLE = Schedule("linear", warmup=0.1, final=1 / 32)


class Settings(Section):
    """Settings of the strategy."""

    name: Literal["gradual"]
    epochs_per_phase: int = Field(ge=1)
    lr_divisor: float = Field(ge=1)


def phases(layers: Layers, settings: Settings, epochs: int) -> list[Phase]:
    """Phase 0 trains the head; each one after it adds stages, until all above the freeze depth have thawed."""
    require_stages(layers, settings.name)
    each = settings.epochs_per_phase
    split_epochs(epochs, each, settings.name)
    stages = layers.trainable
    count = min(max(epochs // each, 2), len(stages) + 1)
    groups = [
        ParameterGroup(stage.name, stage.parameters, settings.lr_divisor ** (index - len(stages)))
        for index, stage in enumerate(stages)
    ]
    planned = []
    for number in range(count):
        thawed = number * len(stages) // (count - 1)  # stages, from the top
        trained = groups[len(stages) - thawed :]
        name = trained[0].name if trained else "head"  # the lowest that is trained
        length = each if number < count - 1 else epochs - each * (count - 1)
        planned.append(Phase(name, length, (*trained, head_group(layers)), schedule=_SLANTED_TRIANGLE))
    return planned
