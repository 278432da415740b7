"""What every LightningModule here has in common: the network's logits, and its test."""

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from thawlab.strategies.phases import Phase

Batch = tuple[Tensor, Tensor, Tensor]  # images (B, 3, H, W), labels (B,), positions in the split (B,)


class ImageClassifier(pl.LightningModule):
    """A network in one phase of its training; subclasses say how it is trained.

    Args:
        model: maps images (B, 3, H, W) to logits (B, classes).
        phase: what is trained, for how long; `model` has been frozen accordingly.
        channels_last: lay images out as the network's weights are.
    """

    def __init__(self, model: nn.Module, phase: Phase, channels_last: bool) -> None:
        super().__init__()
        self.model = model
        self.phase = phase
        self.channels_last = channels_last
        self.tested: list[tuple[np.ndarray, np.ndarray]] = []  # positions (B,) and logits (B, classes) of each batch

    def forward(self, images: Tensor) -> Tensor:
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        logits = self.model(images)
        return logits[0] if isinstance(logits, tuple) else logits  # Inception's second output is an auxiliary head

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        images, _, positions = batch
        logits = self(images)  # (B, classes)
        self.tested.append((positions.cpu().numpy(), logits.float().cpu().numpy()))
