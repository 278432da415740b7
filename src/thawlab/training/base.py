"""What every LightningModule here has in common: the network's logits, and its test."""

from collections.abc import Sequence

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from thawlab.backbones.cut.find import Cut
from thawlab.strategies.phases import Phase

Inputs = Tensor | Sequence[Tensor]  # images (B, 3, H, W), or their activations at the freeze boundary
Batch = tuple[Inputs, Tensor, Tensor]  # inputs, labels (B,), positions in the split (B,)


class ImageClassifier(pl.LightningModule):
    """A network in one phase of its training; subclasses say how it is trained.

    Args:
        model: maps images (B, 3, H, W) to logits (B, classes).
        phase: what is trained, for how long; `model` has been frozen accordingly.
        channels_last: lay images out as the network's weights are.

    Attributes:
        cut: where the network goes on from stored activations, if some batches hold those.
        first_epoch: epochs of the phases before this one.
    """

    def __init__(self, model: nn.Module, phase: Phase, channels_last: bool) -> None:
        super().__init__()
        self.cut: Cut | None = None
        self.first_epoch = 0
        self.model = model
        self.phase = phase
        self.channels_last = channels_last
        self.tested: list[tuple[np.ndarray, np.ndarray]] = []  # positions (B,) and logits (B, classes) of each batch

    def forward(self, inputs: Inputs) -> Tensor:
        if not isinstance(inputs, Tensor):
            assert self.cut is not None
            logits = self.cut.suffix(inputs)
        else:
            if self.channels_last:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            logits = self.model(inputs)
        return logits[0] if isinstance(logits, tuple) else logits  # Inception's second output is an auxiliary head

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        images, _, positions = batch
        logits = self(images)  # (B, classes)
        self.tested.append((positions.cpu().numpy(), logits.float().cpu().numpy()))
