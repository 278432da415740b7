"""The LightningModule of a phase that is trained step by step: losses, metrics, optimizer."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed
import torch.nn.functional as F
from timm.data.mixup import Mixup
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from thawlab.backbones.freezing import held_in_eval
from thawlab.config.divergence import diverged
from thawlab.strategies.phases import Phase, Schedule
from thawlab.strategies.regularisers.contract import Regulariser, StepOutputs
from thawlab.training.base import Batch, ImageClassifier
from thawlab.training.evaluation import BalancedAccuracy
from thawlab.training.optimizers import create_optimizer, create_schedule, parameter_groups

_SHOWN_EVERY = 10  # steps, for the loss beside the progress bar
_AGREED_EVERY = 10  # steps, on whether the loss is finite in all processes


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

    Raises:
        DivergedError: in training, once a loss is not finite; in all processes at the same step.
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
        self._steps = 0  # in this epoch
        self._odd: int | None = None  # the first of them with a loss that is not finite
        self._held: list[nn.Module] | None = None  # in eval mode
        self._on_terminal = sys.stdout.isatty()
        # Logged once an epoch, by ourselves: self.log() in each step takes half the time of a small one.
        self.means: Any = nn.ModuleDict()
        for split in ("train", "val"):
            self.means[f"{split}/acc"] = MulticlassAccuracy(classes, average="micro", validate_args=False)
            self.means[f"{split}/loss"] = MeanMetric()
        self.means["val/balanced_acc"] = BalancedAccuracy(classes)
        if self.regularisers:
            self.means["train/penalty"] = MeanMetric()

    def on_train_epoch_start(self) -> None:
        # A hook, not a train() override: Lightning 2.6 restores every module's mode itself and never calls train().
        if self._held is None:  # found once: to look for them takes as long as several steps of a head alone
            outer = held_in_eval(self.model, self.phase.batch_norm)
            self._held = [each for module in outer for each in module.modules()]
        for module in self._held:
            if module.training:
                module.training = False
        for metric in self.means.values():
            metric.reset()
        self._steps, self._odd = 0, None
        # Each epoch draws from its own seed, so that a resumed run repeats what an uninterrupted one does.
        words = np.random.SeedSequence((self.recipe.seed, self.current_epoch, self.global_rank)).generate_state(2)
        # Not torch.manual_seed: until a GPU is first used, each call leaves a note of its whole stack, for good.
        torch.default_generator.manual_seed(int(words[0]))
        if self.device.type == "cuda":
            torch.cuda.manual_seed(int(words[0]))
        np.random.seed(words[1])  # timm's mixup draws from it

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        images, labels, _ = batch
        targets: Tensor = labels
        if self.mix is not None:
            images, targets = self.mix(images, labels)
        logits = self(images)
        smoothing = 0.0 if self.mix is not None else self.recipe.label_smoothing  # the mix has smoothed already
        loss = F.cross_entropy(logits, targets, label_smoothing=smoothing)
        self._count("train", logits, labels, loss)
        if self._on_terminal and batch_idx % _SHOWN_EVERY == 0:
            self.log("loss", loss.detach(), prog_bar=True)
        if not self.regularisers:
            self._watch(loss.detach()[None])
            return loss
        seen = StepOutputs(images, targets, logits)  # type: ignore[arg-type]  (images, where a regulariser needs them)
        penalty = torch.stack([regulariser.loss(seen) for regulariser in self.regularisers]).sum()
        self.means["train/penalty"].update(penalty.detach(), weight=len(labels))
        self._watch((loss + penalty).detach()[None])
        return loss + penalty

    def _watch(self, losses: Tensor) -> None:
        """Look at the losses of some steps, and stop where one is not finite: no later step could mend it."""
        # Not by the gradients: those of float16 overflow now and then, and such a step is left out.
        odd = ~losses.isfinite()
        if odd.any():
            self._odd = self._odd or self._steps + 1 + int(odd.nonzero()[0])
        self._steps += len(losses)
        if self.trainer.world_size == 1 or self._steps % _AGREED_EVERY == 0:
            self._agree("training loss", self._odd or self._steps)

    def _agree(self, what: str, step: int | None = None) -> None:
        odd = self._odd is not None
        if self.trainer.world_size > 1:  # or one would stop, and the others wait for it
            odd = not self.trainer.strategy.reduce_boolean_decision(not odd, all=True)
        if odd:
            raise diverged(what, self.recipe.lr, self.first_epoch + self.current_epoch + 1, step)

    def on_validation_start(self) -> None:
        self._agree("training loss", self._odd or self._steps)
        # The processes' BatchNorm statistics differ since the last step; the checkpoint will hold the first one's.
        if self.trainer.world_size > 1:
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, labels, _ = batch
        logits = self(images)
        loss = F.cross_entropy(logits.float(), labels)
        if not math.isfinite(float(loss)):
            self._odd = self._odd or batch_idx + 1
        self._count("val", logits, labels, loss)
        self.means["val/balanced_acc"].update(logits, labels)

    def on_validation_epoch_end(self) -> None:
        self._agree("validation loss")
        # Here, since a validation ends before the callbacks that read the epoch's metrics are called.
        self.log_dict({name: metric.compute() for name, metric in self.means.items()})

    def _count(self, split: str, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
        self.means[f"{split}/acc"].update(logits.detach(), labels)
        self.means[f"{split}/loss"].update(loss.detach(), weight=len(labels))

    def count_steps(self) -> int:
        """Optimizer steps in the phase."""
        return int(self.trainer.estimated_stepping_batches)

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        groups = parameter_groups(self.model, self.phase.groups, recipe.lr, recipe.weight_decay)
        optimizer = create_optimizer(recipe.optimizer, groups, recipe.lr, recipe.options)
        schedule = create_schedule(self.phase.schedule or recipe.schedule, optimizer, self.count_steps())
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
