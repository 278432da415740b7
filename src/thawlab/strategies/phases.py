"""What a strategy is given and what it answers with: layers in, phases out. Plain data, no torch.

A strategy is a module `strategies/<name>.py` with `Settings` (its keys, typed) and
`phases(layers, settings, epochs) -> list[Phase]`, beside a `conf/strategy/<name>.yaml` with the values.
"""

from dataclasses import dataclass
from typing import Protocol


class StageLike(Protocol):
    """A stage of a backbone: a name and the names of its parameters."""

    @property
    def name(self) -> str: ...

    @property
    def parameters(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Layers:
    """A network as strategies see it.

    Attributes:
        stages: the stem, then stages 1…K, input side first.
        head: names of the head's parameters.
        frozen: how many leading entries of `stages` the freeze depth holds fixed.
    """

    stages: tuple[StageLike, ...]
    head: tuple[str, ...]
    frozen: int

    @property
    def trainable(self) -> tuple[StageLike, ...]:
        """The stages above the freeze depth that have parameters."""
        return tuple(stage for stage in self.stages[self.frozen :] if stage.parameters)


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate: `optimizer.lr` times `lr_scale`."""

    name: str
    parameters: tuple[str, ...]
    lr_scale: float


@dataclass(frozen=True)
class Phase:
    """One fit: a fixed set of trainable parameters, one optimizer, one schedule over `epochs` epochs."""

    name: str
    epochs: int
    groups: tuple[ParameterGroup, ...]

    @property
    def parameters(self) -> frozenset[str]:
        """Names of everything that this phase trains; all else is frozen."""
        return frozenset(name for group in self.groups for name in group.parameters)
