"""What training leaves behind, of one network as of many heads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from thawlab.training.best_epoch import Best


@dataclass(frozen=True)
class Tested:
    """What a network says of the test images.

    Attributes:
        logits: (test images, classes), in the order of the split.
        cost: of training and testing it, by the names in MLflow.
        device: where it was computed.
    """

    logits: np.ndarray
    cost: Mapping[str, float]
    device: str


class Outcome(Protocol):
    """A trained network.

    Attributes:
        best: the epoch that is kept.
        audited: frozen tensors that were found unchanged, in the phase that had most.
        history: the metrics of each epoch, with its number as `epoch`; None where only a tracker has them all, as over
            a resume.
    """

    @property
    def best(self) -> Best: ...

    @property
    def audited(self) -> int: ...

    @property
    def history(self) -> Sequence[Mapping[str, float]] | None: ...

    def test(self) -> Tested:
        """Put the weights of the best epoch into the network, as it will be kept, and test it on every image once.

        Raises:
            DivergedError: its logits, or its losses in training, are not finite.
        """
        ...
