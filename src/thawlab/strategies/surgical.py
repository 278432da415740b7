"""Surgical fine-tuning: one contiguous block of stages and the head; all else stays as it is.

Which block is best depends on how the images differ from the source's: the first where their pixels do, the last where
only the labels do. `stage=auto` takes the stage whose gradient is largest beside its weights before training.
"""

from typing import Annotated, Literal

from pydantic import Field

from thawlab.config.nearest import nearest
from thawlab.config.schema import Section
from thawlab.strategies.phases import Layers, ParameterGroup, Phase, head_group, require_stages

PAPER = "Lee et al. 2023, arXiv:2210.11466"


class Settings(Section):
    """Settings of the strategy."""

    name: Literal["surgical"]
    stage: Annotated[int, Field(ge=0)] | str
    lr_scale: float = Field(gt=0)


def measures_gradients(settings: Settings) -> bool:
    """Only an automatic choice looks at the images."""
    return settings.stage == "auto"


def phases(layers: Layers, settings: Settings, epochs: int) -> list[Phase]:
    """One phase with the head and the chosen stages.

    Raises:
        ValueError: no such stage, or one that the freeze depth covers.
    """
    require_stages(layers, settings.name)
    if settings.stage == "auto":
        sizes = layers.relative_gradients
        chosen = (max(layers.trainable, key=lambda stage: sizes[stage.name]),)
    else:
        first, last = _ends(layers, settings.stage)
        chosen = layers.stages[first : last + 1]
    groups = (ParameterGroup(stage.name, stage.parameters, settings.lr_scale) for stage in chosen if stage.parameters)
    return [Phase("surgical", epochs, (*groups, head_group(layers)))]


def _ends(layers: Layers, stage: int | str) -> tuple[int, int]:
    """The first and the last stage of the block, as positions in `layers.stages`."""
    parts = str(stage).split(":")
    if len(parts) > 2:
        raise ValueError(_no_such_stage(layers, stage, str(stage)))
    ends = [_position(layers, stage, part) for part in parts]
    first, last = ends[0], ends[-1]
    if first > last:
        raise ValueError(f"strategy.stage={stage}: a range goes from the input up; use {parts[1]}:{parts[0]}")
    if first < layers.frozen:
        frozen = layers.stages[layers.frozen - 1].name
        raise ValueError(
            f"strategy.stage={stage}: the freeze depth holds everything up to {frozen} fixed; use stages from "
            f"{layers.trainable[0].name} on, or freeze fewer"
        )
    if not any(each.parameters for each in layers.stages[first : last + 1]):
        raise ValueError(f"strategy.stage={stage}: this backbone has no stem; use 1, {layers.stages[1].name}")
    return first, last


def _position(layers: Layers, stage: int | str, part: str) -> int:
    names = [each.name for each in layers.stages]
    if part in names:
        return names.index(part)
    if part.isdecimal() and int(part) < len(names):
        return int(part)
    raise ValueError(_no_such_stage(layers, stage, part))


def _no_such_stage(layers: Layers, stage: int | str, part: str) -> str:
    names = [each.name for each in layers.stages]
    near = nearest(part, [*names, "auto"])
    return (
        f"strategy.stage={stage}: this backbone has {len(names) - 1} stages, so use auto, 0 (the stem) to "
        f"{len(names) - 1}, a name, or a range such as 1:2" + (f"; nearest: {', '.join(near)}" if near else "")
    )
