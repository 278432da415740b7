"""Training on stored activations, several optimizer steps at a time.

With everything but the head frozen, a step on stored activations takes half a millisecond, and what Lightning does
around each batch takes several times that. Here it is handed several batches as one, and the steps are taken inside.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from thawlab.backbones.torch_internals import foreach_mul_, foreach_norm
from thawlab.data.feature_dataset import FeatureSet
from thawlab.data.samplers import batch_sizes
from thawlab.strategies.phases import Phase
from thawlab.training.base import Batch
from thawlab.training.classifier import Classifier, Recipe
from thawlab.training.trainer import callbacks_of

_BYTES = 16e6  # of the activations that are served together
_MOST = 128  # steps


def steps_at_once(trainer: pl.Trainer, features: FeatureSet, batch_size: int) -> int:
    """How many batches of stored activations to serve as one: 1 where steps are long, or not plain ones.

    Args:
        trainer: of the phase; what acts between its steps (other processes, accumulation, moving averages, the scaling
            of float16 losses) has to see each of them.
        features: what is trained on.
        batch_size: images in a step.
    """
    if trainer.world_size > 1 or trainer.accumulate_grad_batches > 1 or trainer.precision == "16-mixed":
        return 1
    if callbacks_of(trainer, WeightAveraging):
        return 1
    size = batch_size * sum(value[0].nbytes for value in features.values)
    return max(1, min(_MOST, int(_BYTES // size)))


class SeveralSteps(Classifier):
    """A Classifier whose batches are those of several steps, one after the other; what it computes is the same.

    Args:
        model: as in `Classifier`, and all others but those below.
        classes: number of classes.
        phase: what is trained.
        recipe: how; without mixing, since there are no images to mix.
        features: what it is trained on; a batch holds rows of them.
        batch_size: images in a step.
        clip: largest norm of a step's gradient; None = any.
    """

    def __init__(
        self,
        model: nn.Module,
        classes: int,
        phase: Phase,
        recipe: Recipe,
        features: FeatureSet,
        batch_size: int,
        clip: float | None,
    ) -> None:
        super().__init__(model, classes, phase, recipe)
        assert self.mix is None
        self.features, self.batch_size, self.clip = features, batch_size, clip
        self._places = [value.new_empty(batch_size + 1, *value.shape[1:]) for value in features.values]
        self.automatic_optimization = False

    def count_steps(self) -> int:
        self.trainer.fit_loop.setup_data()
        loader: Any = self.trainer.train_dataloader
        assert self.trainer.max_epochs is not None
        return len(batch_sizes(len(loader.batch_sampler.sampler), self.batch_size)) * self.trainer.max_epochs

    def configure_optimizers(self) -> Any:
        configured = super().configure_optimizers()
        optimizer: Optimizer = configured["optimizer"]
        self._moved = [each for group in optimizer.param_groups for each in group["params"]]
        self._move = _unwrapped_step(optimizer)
        return configured

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        rows, labels, _ = batch
        assert isinstance(rows, Tensor)
        sizes = batch_sizes(len(labels), self.batch_size)
        targets = labels.split(sizes)
        optimizer = self.trainer.optimizers[0]
        schedule: Any = self.trainer.lr_scheduler_configs[0].scheduler
        done: list[tuple[Tensor, Tensor]] = []
        for each, target in zip(rows.split(sizes), targets, strict=True):
            # The first as torch means it, so that the schedule knows the optimizer has begun.
            done.append(self._step(each, target, self._move if done else optimizer.step))
            if len(done) < len(targets):
                _next_rates(schedule)
        schedule.step()  # which keeps account of all of them
        losses = torch.stack([loss for _, loss in done])
        self._watch(losses)
        self.means["train/acc"].update(torch.cat([logits for logits, _ in done]), labels)
        self.means["train/loss"].update(losses, weight=losses.new_tensor(sizes))
        if self._on_terminal:
            self.log("loss", losses[-1], prog_bar=True)

    def _step(self, rows: Tensor, targets: Tensor, move: Callable[[], object]) -> tuple[Tensor, Tensor]:
        """Logits and loss before the step, which `move` takes once there are gradients."""
        for each in self._moved:  # not zero_grad(), which tells the profiler of itself
            each.grad = None
        logits = self(self._gathered(rows))
        loss = F.cross_entropy(logits, targets, label_smoothing=self.recipe.label_smoothing)
        loss.backward()
        if self.clip is not None:
            _clip([each.grad for each in self._moved if each.grad is not None], self.clip)
        # The optimizer itself: Lightning's wrapper has nothing to add to a plain step but the count.
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        progress.increment_ready()
        move()
        progress.increment_completed()
        return logits.detach(), loss.detach()

    def _gathered(self, rows: Tensor) -> list[Tensor]:
        """The activations of a step's images, where they stay until the next step."""
        chosen = []
        for value, buffer, dtype in zip(self.features.values, self._places, self.features.dtypes, strict=True):
            # Into the same memory each time: into new memory it takes several times as long.
            found = torch.index_select(value, 0, rows, out=buffer[: len(rows)])
            chosen.append(found.to(self.device, dtype, non_blocking=True))
        return chosen


def _clip(gradients: list[Tensor], norm: float) -> None:
    """What torch's `clip_grad_norm_` computes, without sorting tensors by device and type first: half of its time."""
    norms = foreach_norm(gradients)
    factor = torch.clamp(norm / (torch.linalg.vector_norm(torch.stack(list(norms))) + 1e-6), max=1.0)
    foreach_mul_(gradients, factor)


def _unwrapped_step(optimizer: Optimizer) -> Callable[[], object]:
    """The optimizer's step without what torch wraps around it for its profiler and for hooks: a third of its time."""
    step: Any = type(optimizer).step
    return partial(step.__wrapped__ if getattr(step, "hooked", False) else step, optimizer)


def _next_rates(schedule: LRScheduler) -> None:
    """What `schedule.step()` does to the rates; where it can, in a tenth of its time."""
    if not isinstance(schedule, LambdaLR):
        schedule.step()
        return
    schedule.last_epoch += 1
    groups = schedule.optimizer.param_groups
    for group, rate, factor in zip(groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
        group["lr"] = rate * factor(schedule.last_epoch)
