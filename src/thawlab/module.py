"""The LightningModule of a phase that is trained step by step: losses, metrics, optimizer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed
import torch.nn.functional as F
from timm.data.mixup import Mixup
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from thawlab.backbones.freezing import eval_batch_norm, eval_frozen
from thawlab.inference import Batch, ImageClassifier
from thawlab.optimizers import create_optimizer, create_schedule, parameter_groups
from thawlab.regularisers.start import Regulariser, Seen
from thawlab.strategies.phases import Phase, Schedule


@dataclass(frozen=True)
class Recipe:
    """How the weights are moved, in plain values: the settings of optimizer, schedule, mixing and loss.

    `schedule` is that of phases that have none of their own; `seed` is the phase's.
    """

    optimizer: str
    lr: float
    weight_decay: float
    schedule: Schedule
    label_smoothing: float
    mixup: float
    cutmix: float
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)
    channels_last: bool = False


class Classifier(ImageClassifier):
    """Trains what a phase names and keeps all else as it is.

    Args:
        model: maps images (B, 3, H, W) to logits (B, classes).
        classes: number of classes.
        phase: what is trained, for how long; `model` has been frozen accordingly.
        recipe: how.
        regularisers: terms that are added to the training loss.
    """

    def __init__(
        self,
        model: nn.Module,
        classes: int,
        phase: Phase,
        recipe: Recipe,
        regularisers: Sequence[Regulariser] = (),
    ) -> None:
        super().__init__(model, phase, recipe.channels_last)
        self.recipe = recipe
        self.regularisers = tuple(regularisers)
        self.mix = _mixup(recipe, classes)
        # Attributes, since Lightning resets and syncs the metrics that it finds as submodules.
        self.train_acc, self.val_acc = (MulticlassAccuracy(classes, average="micro") for _ in range(2))
        self.train_loss, self.val_loss, self.train_penalty = MeanMetric(), MeanMetric(), MeanMetric()

    def on_train_epoch_start(self) -> None:
        # A hook, not a train() override: Lightning 2.6 restores every module's mode itself and never calls train().
        eval_frozen(self.model)
        if self.phase.batch_norm == "eval":
            eval_batch_norm(self.model)
        # Each epoch draws from its own seed, so that a resumed run repeats what an uninterrupted one does.
        words = np.random.SeedSequence((self.recipe.seed, self.current_epoch, self.global_rank)).generate_state(2)
        torch.manual_seed(int(words[0]))
        np.random.seed(words[1])  # timm's mixup draws from it

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels, _ = batch
        targets: Tensor = labels
        if self.mix is not None:
            images, targets = self.mix(images, labels)
        logits = self(images)
        smoothing = 0.0 if self.mix is not None else self.recipe.label_smoothing  # the mix has smoothed already
        loss = F.cross_entropy(logits, targets, label_smoothing=smoothing)
        self._count(self.train_acc, self.train_loss, "train", logits, labels, loss)
        if not self.regularisers:
            return loss
        seen = Seen(images, targets, logits)
        penalty = torch.stack([regulariser.loss(seen) for regulariser in self.regularisers]).sum()
        self.train_penalty.update(penalty.detach(), weight=len(labels))
        self.log("train/penalty", self.train_penalty, on_step=False, on_epoch=True)
        return loss + penalty

    def on_validation_start(self) -> None:
        # The processes' BatchNorm statistics differ since the last step; the checkpoint will hold the first one's.
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, labels, _ = batch
        logits = self(images)
        loss = F.cross_entropy(logits.float(), labels)
        self._count(self.val_acc, self.val_loss, "val", logits, labels, loss)

    def _count(
        self, accuracy: Metric, mean: MeanMetric, split: str, logits: Tensor, labels: Tensor, loss: Tensor
    ) -> None:
        accuracy.update(logits.detach(), labels)
        mean.update(loss.detach(), weight=len(labels))
        self.log(f"{split}/acc", accuracy, on_step=False, on_epoch=True, prog_bar=True)
        self.log(f"{split}/loss", mean, on_step=False, on_epoch=True, prog_bar=True)

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        groups = parameter_groups(self.model, self.phase.groups, recipe.lr, recipe.weight_decay)
        optimizer = create_optimizer(recipe.optimizer, groups, recipe.lr, recipe.options)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = create_schedule(self.phase.schedule or recipe.schedule, optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _mixup(recipe: Recipe, classes: int) -> Mixup | None:
    if not recipe.mixup and not recipe.cutmix:
        return None
    return Mixup(
        mixup_alpha=recipe.mixup,
        cutmix_alpha=recipe.cutmix,
        label_smoothing=recipe.label_smoothing,
        num_classes=classes,
    )
