"""Learning without forgetting: what the source's classifier says stays as it was (Li and Hoiem 2016, arXiv:1606.09282).

strength · KL(before ‖ now) of its answers to the batch's images, both softened by the temperature, as a mean over the
images. Its gradient is that of the paper's cross-entropy with the answers before. Unlike in the paper, these are
computed anew for each augmented image, instead of once.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from thawlab.strategies.lwf import Settings
from thawlab.strategies.regularisers.contract import PhaseStart, StepOutputs
from thawlab.strategies.regularisers.taps import Source, Tap, classifier_input, linear_classifier

NEEDS_IMAGES = True


def create(settings: Settings, start: PhaseStart) -> "Distillation":
    """The term for a model that has a `source_classifier` beside its own.

    Raises:
        ValueError: the weights have no source classifier, or the network's is not a single linear layer.
    """
    classifier = linear_classifier(start.model, start.strategy)
    source = Source(start.model, start.source_classifier, start.device, start.strategy)
    source_classifier = start.model.get_submodule("source_classifier")
    return Distillation(Tap(classifier, given=True), source_classifier, source, settings.strength, settings.temperature)


class Distillation:
    """The term."""

    def __init__(
        self, tap: Tap, source_classifier: nn.Module, source: Source, strength: float, temperature: float
    ) -> None:
        self.tap = tap
        self.source_classifier = source_classifier
        self.source = source
        self.strength = strength
        self.temperature = temperature

    def loss(self, seen: StepOutputs) -> Tensor:
        now = self.source_classifier(classifier_input(self.tap)).float() / self.temperature  # (B, source classes)
        before = self.source.logits(seen.images).float() / self.temperature
        distance = F.kl_div(now.log_softmax(dim=1), before.log_softmax(dim=1), reduction="batchmean", log_target=True)
        return self.strength * distance

    def close(self) -> None:
        self.tap.close()
