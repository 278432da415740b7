"""Batch spectral shrinkage: the smallest singular values of a batch's features (Chen et al. 2019, NeurIPS).

eta times the sum of the squares of the k smallest, of the matrix (images, features) that the classifier is given. In a
distributed run each process takes its own part of the batch, as its singular values are those of no larger matrix.
"""

import torch
from torch import Tensor

from thawlab.strategies.bss import Settings
from thawlab.strategies.regularisers.contract import PhaseStart, StepOutputs
from thawlab.strategies.regularisers.taps import Tap, classifier_input, linear_classifier

NEEDS_IMAGES = False


def create(settings: Settings, start: PhaseStart) -> "SpectralShrinkage":
    """The term on the features of this network.

    Raises:
        ValueError: its classifier is not a single linear layer.
    """
    classifier = linear_classifier(start.model, start.strategy)
    return SpectralShrinkage(Tap(classifier, given=True), settings.eta, settings.smallest)


class SpectralShrinkage:
    """The term."""

    def __init__(self, tap: Tap, eta: float, smallest: int) -> None:
        self.tap = tap
        self.eta = eta
        self.smallest = smallest

    def loss(self, seen: StepOutputs) -> Tensor:
        features = classifier_input(self.tap)  # (B, features)
        with torch.autocast(features.device.type, enabled=False):
            values = torch.linalg.svdvals(features.float())  # (min(B, features),), the largest first
            return self.eta * values[-self.smallest :].square().sum()

    def close(self) -> None:
        self.tap.close()
