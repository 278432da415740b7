"""What a transfer regulariser is given: a term that a strategy adds to the training loss.

A regulariser is a module `strategies/regularisers/<name>.py`, named as the strategy is, with
`create(settings, start) -> Regulariser`, and `NEEDS_IMAGES`: whether `StepOutputs.images` must be images, where
otherwise the network may go on from stored activations. It is made anew at the start of a phase from nothing but the
network as it is then, so that a resumed run equals an uninterrupted one. What it needs of the forward pass it takes by
hooks.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from thawlab.strategies.phases import Layers


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
    """

    model: nn.Module
    layers: Layers
    device: torch.device
    classes: int
    source_classifier: Mapping[str, Tensor] | None
    training_batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]
    strategy: str


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
