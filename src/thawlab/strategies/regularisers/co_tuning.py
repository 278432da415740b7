"""Co-tuning: the source's classifier learns which of its classes a target class looks like (You et al. 2020, NeurIPS).

The relation p(source class | target class) is the mean of what the source network says of the training images of each
target class: the direct approach of the paper. Left out are its calibration of the source's probabilities, which needs
validation data of the source, and its other approach, which learns p(target | source) and turns it round.
"""

from collections.abc import Sized

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thawlab.strategies.co_tuning import Settings
from thawlab.strategies.regularisers.contract import PhaseStart, StepOutputs
from thawlab.strategies.regularisers.taps import Source, Tap, classifier_input, linear_classifier

NEEDS_IMAGES = False


def create(settings: Settings, start: PhaseStart) -> "CoTuning":
    """The term for a model that has a `source_classifier` beside its own; learns the relation from training images.

    Raises:
        ValueError: the weights have no source classifier, or the network's is not a single linear layer.
    """
    classifier = linear_classifier(start.model, start.strategy)
    relation = learn_relation(start)
    source_classifier = start.model.get_submodule("source_classifier")
    return CoTuning(Tap(classifier, given=True), source_classifier, relation, settings.strength)


def learn_relation(start: PhaseStart) -> Tensor:
    """p(source class | target class), a row for each target class: (classes, source classes).

    A class without training images gets a uniform row.
    """
    source = Source(start.model, start.source_classifier, start.device, start.strategy)
    sums = counts = torch.zeros(())
    batches = start.training_batches()
    length = len(batches) if isinstance(batches, Sized) else None
    with start.progress("source classes of the training images", length) as advance:
        for images, labels in batches:
            shares = source.logits(images.to(start.device)).cpu().double().softmax(dim=1)  # (B, source classes)
            members = F.one_hot(labels, start.classes).double()  # (B, classes)
            sums, counts = sums + members.T @ shares, counts + members.sum(dim=0)
            advance(1)
    uniform = torch.full_like(sums, 1 / sums.shape[1])
    rows = torch.where(counts[:, None] > 0, sums / counts[:, None], uniform)
    return rows.float().to(start.device)


class CoTuning:
    """The term."""

    def __init__(self, tap: Tap, source_classifier: nn.Module, relation: Tensor, strength: float) -> None:
        self.tap = tap
        self.source_classifier = source_classifier
        self.relation = relation
        self.strength = strength

    def loss(self, seen: StepOutputs) -> Tensor:
        logits = self.source_classifier(classifier_input(self.tap))  # (B, source classes)
        with torch.autocast(logits.device.type, enabled=False):
            # Mixed images look like the source classes of both their parts.
            mixed = seen.targets.ndim == 2
            wanted = seen.targets.to(self.relation) @ self.relation if mixed else self.relation[seen.targets]
            return self.strength * F.cross_entropy(logits.float(), wanted)

    def close(self) -> None:
        self.tap.close()
