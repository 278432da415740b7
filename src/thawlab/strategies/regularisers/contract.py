"""What a module `strategies/regularisers/<name>.py` provides: a term that the strategy of its name adds to the loss."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
from torch import Tensor, nn

from thawlab.config.plugins import Plugins
from thawlab.strategies.phases import Layers

if TYPE_CHECKING:
    from thawlab.config.schema import Section

S = TypeVar("S", bound="Section", contravariant=True)
# A bar for what takes a while, by what it is and how much of it there is; inside, it is told of what has been done.
Progress = Callable[[str, float | None], AbstractContextManager[Callable[[float], object]]]


def no_progress(_what: str, _total: float | None) -> AbstractContextManager[Callable[[float], object]]:
    """No bar."""
    return nullcontext(lambda _done: None)


@dataclass(frozen=True)
class PhaseStart:
    """The start of a phase.

    Attributes:
        model: the network as the phase begins, on `device`; not to be changed.
        layers: its stages and head.
        device: where training will take place.
        classes: of the target.
        source_classifier: `weight` (source classes, features) and, mostly, `bias`; None where the weights have none.
        training_batches: makes an iterable of the training images (B, 3, H, W) without augmentation and labels (B,), on
            the CPU, in the same order in every process.
        strategy: its name, for messages.
        progress: shows how far something has come.
    """

    model: nn.Module
    layers: Layers
    device: torch.device
    classes: int
    source_classifier: Mapping[str, Tensor] | None
    training_batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]
    strategy: str
    progress: Progress = no_progress


@dataclass(frozen=True)
class StepOutputs:
    """One training step: images (B, 3, H, W), targets and logits (B, classes).

    Targets are labels (B,), or shares (B, classes) where images were mixed.
    """

    images: Tensor
    targets: Tensor
    logits: Tensor


class Regulariser(Protocol):
    """A term of the loss."""

    def loss(self, seen: StepOutputs) -> Tensor:
        """The term of this step, a scalar; called after the model's forward pass."""
        ...

    def close(self) -> None:
        """Let go of the model: remove every hook."""
        ...


class RegulariserModule(Protocol[S]):
    """How the term is made."""

    @property
    def NEEDS_IMAGES(self) -> bool:
        """Whether `StepOutputs.images` must be images, since it shows them to a network of its own.

        Otherwise the network may go on from stored activations.
        """
        ...

    def create(self, settings: S, start: PhaseStart, /) -> Regulariser:
        """The term, made anew at the start of each phase from nothing but the network as it is then.

        So a resumed run equals an uninterrupted one. What the term needs of the forward pass it takes by hooks.

        Raises:
            ValueError: the network does not suit it.
        """
        ...


REGULARISERS: "Plugins[RegulariserModule[Section]]" = Plugins(
    "regulariser",
    "Phase.regularisers",
    "thawlab.strategies.regularisers",
    RegulariserModule,
    helpers=("channel_attention", "taps"),
)
