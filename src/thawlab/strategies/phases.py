"""What a strategy is given and what it answers with: layers in, phases out. Plain data, no torch."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:  # what knows phases need not know the configuration
    from thawlab.config.schema import Section


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
        kept: how many leading entries of `stages` start from the source's weights; None = all.
        norms: names of the parameters of normalisation layers.
        added: names of the parameters that an extension put into the stages.
        beside: parts that an extension put beside backbone and head, such as the source's classifier.
        relative_gradients: for each stage that has parameters, by its name, how large the gradient of the target's loss
            is beside the weights; empty unless the strategy asks for it.
    """

    stages: tuple[StageLike, ...]
    head: tuple[str, ...]
    frozen: int
    kept: int | None = None
    norms: frozenset[str] = frozenset()
    added: frozenset[str] = frozenset()
    beside: tuple[StageLike, ...] = ()
    relative_gradients: Mapping[str, float] = field(default_factory=dict)

    @property
    def trainable(self) -> tuple[StageLike, ...]:
        """The stages above the freeze depth that have parameters."""
        return tuple(stage for stage in self.stages[self.frozen :] if stage.parameters)

    def stages_below(self, parameters: Collection[str]) -> int:
        """How many leading entries of `stages` hold none of these parameters; those that are trained, for instance."""
        holds = (not set(stage.parameters).isdisjoint(parameters) for stage in self.stages)
        return next((place for place, found in enumerate(holds) if found), len(self.stages))

    @property
    def transferred(self) -> frozenset[str]:
        """Names of the backbone's parameters that start from the source's weights."""
        kept = self.stages if self.kept is None else self.stages[: self.kept]
        return frozenset(name for stage in kept for name in stage.parameters) - self.added


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate: `optimizer.lr` times `lr_scale`."""

    name: str
    parameters: tuple[str, ...]
    lr_scale: float


@dataclass(frozen=True)
class Schedule:
    """How the learning rate moves over the steps of a phase.

    Attributes:
        name: its shape; "linear" rises and falls along straight lines (slanted triangular).
        warmup: share of the steps over which the rate rises.
        final: rate at the end, as a share of the highest.
        start: of "onecycle": rate at the start, as a share of the highest.
        cycle_momentum: of "onecycle": momentum moves against the rate, between 0.95 and 0.85.
    """

    name: Literal["cosine", "constant", "linear", "onecycle"]
    warmup: float
    final: float
    start: float = 0.04
    cycle_momentum: bool = False


@dataclass(frozen=True)
class Logistic:
    """The head is solved for, not stepped to: logistic regression by L-BFGS on the features of the training images.

    Attributes:
        strengths: values of C, the inverse of the regularisation; the best on validation data is taken.
        max_iterations: of L-BFGS, for each C.
    """

    strengths: tuple[float, ...]
    max_iterations: int


@dataclass(frozen=True)
class Phase:
    """One fit: a fixed set of trainable parameters, one optimizer, one schedule over `epochs` epochs.

    Attributes:
        name: unique in the run; names the folder of its checkpoints.
        epochs: passes over the training images.
        groups: all that is trained, with its rates.
        batch_norm: whether BatchNorm layers that are trained normalise by the batch and move their running statistics
            ("train"), or use the statistics as they are ("eval"). Those of frozen layers never move.
        schedule: None = the one that is configured.
        logistic: given where the head is solved for; the phase has one epoch and the head as its only group.
        regularisers: settings of strategies whose module of the same name in `thawlab.strategies.regularisers` adds to
            the loss.
        rates: "relative_gradients" scales each stage's rate, every epoch, by the size of its gradient beside
            its weights.
        draw: names of parameters that start this phase from new random values.
        selectable: whether the run may end with weights of this phase, should they be best on validation data.
    """

    name: str
    epochs: int
    groups: tuple[ParameterGroup, ...]
    batch_norm: Literal["train", "eval"] = "train"
    schedule: Schedule | None = None
    logistic: Logistic | None = None
    regularisers: "tuple[Section, ...]" = ()
    rates: Literal["fixed", "relative_gradients"] = "fixed"
    draw: tuple[str, ...] = ()
    selectable: bool = True

    @property
    def parameters(self) -> frozenset[str]:
        """Names of everything that this phase trains; all else is frozen."""
        return frozenset(name for group in self.groups for name in group.parameters)


def head_group(layers: Layers, lr_scale: float = 1.0) -> ParameterGroup:
    """The head as a group."""
    return ParameterGroup("head", layers.head, lr_scale)


def stage_groups(
    layers: Layers, lr_scale: float, keep: Callable[[str], bool] = lambda _name: True
) -> tuple[ParameterGroup, ...]:
    """A group for each stage above the freeze depth, of those of its parameters that are to be kept, if any."""
    chosen = [(stage.name, tuple(filter(keep, stage.parameters))) for stage in layers.trainable]
    return tuple(ParameterGroup(name, parameters, lr_scale) for name, parameters in chosen if parameters)


def require_stages(layers: Layers, strategy: str) -> None:
    """Refuse a freeze depth that leaves a strategy nothing but the head.

    Raises:
        ValueError: no stage is left to train.
    """
    if not layers.trainable:
        raise ValueError(
            f"strategy={strategy}: the freeze depth leaves it no stage to train; freeze fewer stages, "
            "or use strategy=linear_probe for the head alone"
        )


def split_epochs(epochs: int, first: int, strategy: str) -> tuple[int, int]:
    """The epochs of a first phase and those that are left for the rest.

    Raises:
        ValueError: none would be left.
    """
    if epochs <= first:
        raise ValueError(
            f"epochs={epochs}: strategy={strategy} begins with {first} for the head alone and needs more than that; "
            f"use epochs={first + 1} or more"
        )
    return first, epochs - first
