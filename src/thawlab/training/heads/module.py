"""The LightningModule of many linear heads that are trained at once on the same features, each as if it were alone.

The heads lie in one tensor, so that a step is a few operations however many there are; the optimizer sees the part of
each head as a tensor of its own. Nothing that one head does, such as diverging, reaches another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from thawlab.config.small_data import Rule
from thawlab.strategies.phases import Schedule
from thawlab.training.best_epoch import Best, rank
from thawlab.training.evaluation import mean_recall
from thawlab.training.heads.batched_math import Linear, correct_by_class, leaf_of, losses_of
from thawlab.training.heads.batches import Batches, Features
from thawlab.training.heads.optimizer import Coupling, head_optimizer
from thawlab.training.optimizers import create_schedule

# Validation logits that are held at once.
_MOST_LOGITS = 2**22


@dataclass(frozen=True, eq=False)
class Head:
    """One linear head as it starts, and what is its own in training.

    Attributes:
        weight: (classes, D), or with further dimensions of size one.
        bias: (classes,), None where the classifier has none.
        order: the seed of the order of its images.
        lr: highest learning rate.
        weight_decay: of the weight; a bias never decays.
        label_smoothing: of its training loss.
    """

    weight: Tensor
    bias: Tensor | None
    order: int
    lr: float
    weight_decay: float
    label_smoothing: float


@dataclass(frozen=True)
class HeadRecipe:
    """What all heads have in common, in plain values; `reach` is the optimizer's, `rule` chooses the epoch."""

    optimizer: str
    options: Mapping[str, Any]
    reach: Coupling
    schedule: Schedule
    batch_size: int
    rule: Rule = "acc"
    passes: int = 1  # over the training images in an epoch


class ManyHeads(pl.LightningModule):
    """Trains heads side by side; the sum of their losses gives each the gradients that it would have alone.

    The heads must form a grid: as many for each `order` as for every other.

    Args:
        heads: H of them.
        features: what they are trained, validated and tested on.
        recipe: how.

    Attributes:
        history: the metrics of each epoch by their MLflow names, (H,) each, on the CPU.
        chosen: the best epoch of each head by the rule, and how it did on the validation images.
    """

    def __init__(self, heads: Sequence[Head], features: Features, recipe: HeadRecipe) -> None:
        super().__init__()
        orders = list(dict.fromkeys(head.order for head in heads))
        rows = [[index for index, head in enumerate(heads) if head.order == order] for order in orders]
        assert len({len(row) for row in rows}) == 1, "not a grid"
        self.heads, self.features, self.recipe = tuple(heads), features, recipe
        self.history: list[dict[str, Tensor]] = []
        self._orders = orders
        self._inner = torch.tensor(rows).flatten()  # (H,) head at each inner place: those of one order side by side
        self._place = self._inner.argsort()  # (H,) inner place of each head
        self._classes = heads[0].weight.shape[0]
        self._buffer = torch.empty(0)  # of the features of a step
        self.chosen: list[Best] = []

    def train_dataloader(self) -> Batches:
        return Batches(self.features.train, self._orders, self.recipe.batch_size, self.recipe.passes)

    def val_dataloader(self) -> DataLoader:
        size = len(self.features.val)
        rows = max(_MOST_LOGITS // (len(self.heads) * self._classes), 1)
        slices = [(start, min(start + rows, size)) for start in range(0, size, rows)]
        return DataLoader(slices, batch_size=None, collate_fn=tuple)  # type: ignore[arg-type]

    def configure_optimizers(self) -> Any:
        inner = [self.heads[index] for index in self._inner.tolist()]
        self._weight = leaf_of([head.weight.flatten(1) for head in inner], self.device)  # (H, C, D)
        leaves = [(self._weight, inner[0].weight.shape)]
        self._bias = None
        biases = [head.bias for head in inner if head.bias is not None]
        if biases:
            self._bias = leaf_of(biases, self.device)  # (H, C)
            leaves.append((self._bias, biases[0].shape))
        self._best = [leaf.detach().clone() for leaf, _ in leaves]
        smoothing = torch.tensor([head.label_smoothing for head in inner], device=self.device)
        self._smoothing = smoothing.view(len(self._orders), -1, 1)  # (S, G, 1)
        recipe, rates = self.recipe, [(head.lr, head.weight_decay) for head in inner]
        optimizer, self._rates = head_optimizer(recipe.optimizer, recipe.options, rates, leaves, recipe.reach)
        schedule = create_schedule(recipe.schedule, optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        self._trained, self._trained_count = self._zeros(*self._smoothing.shape[:2]), 0

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        rows, labels = batch, self.features.train_labels  # rows: (S, B)
        labels = labels[rows % len(labels)].to(self.device, non_blocking=True)  # (S, B)
        features = self._gathered(rows)
        weight = self._weight.view(len(rows), -1, features.shape[2])  # (S, G·C, D)
        bias = None if self._bias is None else self._bias.view(len(rows), -1, 1)
        gradients = [None if each is None else each.grad for each in (self._weight, self._bias)]
        logits: Any = Linear.apply(weight, bias, features, *gradients)  # (S, G·C, B)
        losses, right = losses_of(logits.view(len(rows), -1, self._classes, rows.shape[1]), labels, self._smoothing)
        self._trained += torch.stack([losses.detach() * rows.shape[1], right])
        self._trained_count += rows.shape[1]
        return losses.sum()

    def _gathered(self, rows: Tensor) -> Tensor:
        """The features of the images of a step, (S, B, D), where they stay until the next step."""
        source = self.features.train.flatten(0, 1)  # (views · N, D)
        if len(self._buffer) < rows.numel():
            self._buffer = source.new_empty(rows.numel(), source.shape[1])
        # Several times as fast as source[rows], and into new memory it would take longer.
        features = torch.index_select(source, 0, rows.flatten(), out=self._buffer[: rows.numel()])
        return features.to(self.device, torch.float32, non_blocking=True).view(*rows.shape, -1)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        for leaf in self._leaves:
            leaf.grad.zero_()  # not to None: what the optimizer sees is a view of it  # type: ignore[union-attr]

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient of each head by its own norm, as `torch.nn.utils.clip_grad_norm_` does."""
        if gradient_clip_val is None:
            return
        gradients = [leaf.grad.flatten(1) for leaf in self._leaves if leaf.grad is not None]  # (H, …)
        norms = torch.stack([gradient.norm(dim=1) for gradient in gradients]).norm(dim=0)  # (H,)
        scale = (gradient_clip_val / (norms + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(scale[:, None])

    def on_validation_epoch_start(self) -> None:
        self._validated = self._zeros(1, len(self.heads))
        self._correct = torch.zeros(len(self.heads), self._classes, dtype=torch.float64, device=self.device)

    def validation_step(self, batch: tuple[int, int], batch_idx: int) -> None:
        start, stop = batch
        features = self.features.val[start:stop].to(self.device, torch.float32)  # (B, D)
        labels = self.features.val_labels[start:stop].to(self.device)
        logits = self._weight.flatten(0, 1) @ features.T  # (H·C, B)
        if self._bias is not None:
            logits = logits + self._bias.view(-1, 1)
        logits = logits.view(1, -1, self._classes, stop - start)
        self._correct += correct_by_class(logits[0], labels)
        losses, right = losses_of(logits, labels[None], torch.zeros((), device=self.device))
        self._validated += torch.stack([losses * (stop - start), right])

    def on_validation_epoch_end(self) -> None:
        trained = self._trained.flatten(1).cpu() / self._trained_count  # (2, H), in inner order
        validated = self._validated.flatten(1).cpu() / len(self.features.val)
        values: dict[str, Tensor] = dict(zip(("train/loss", "train/acc"), trained, strict=True))
        values |= dict(zip(("val/loss", "val/acc"), validated, strict=True))
        images = self.features.val_labels.bincount(minlength=self._classes).cpu()
        values["val/balanced_acc"] = mean_recall(self._correct.cpu(), images)
        row = {name: value.float()[self._place] for name, value in values.items()}
        row["lr/head"] = torch.tensor(self._rates(), dtype=torch.float64)[self._place]
        self._keep_best(row)
        self.history.append(row)

    def best(self, head: int) -> tuple[Tensor, Tensor | None]:
        """Weight (classes, D) and bias (classes,) of a head at its best epoch."""
        place = int(self._place[head])
        weight, *bias = (each[place] for each in self._best)
        return weight, bias[0] if bias else None

    def test_logits(self, head: int) -> Tensor:
        """What the head at its best says of the test images, (N, classes) float32 on the CPU."""
        weight, bias = self.best(head)
        return F.linear(self.features.test.to(weight.device, torch.float32), weight, bias).float().cpu()

    @property
    def _leaves(self) -> list[Tensor]:
        return [self._weight] if self._bias is None else [self._weight, self._bias]

    def _keep_best(self, row: Mapping[str, Tensor]) -> None:
        columns = (row[f"val/{name}"].tolist() for name in ("acc", "loss", "balanced_acc"))
        now = [Best(acc, self.current_epoch, Path(), *rest) for acc, *rest in zip(*columns, strict=True)]
        kept = self.chosen or now
        rule = self.recipe.rule
        better = [not self.chosen or rank(rule, new) > rank(rule, old) for new, old in zip(now, kept, strict=True)]
        self.chosen = [new if win else old for win, new, old in zip(better, now, kept, strict=True)]
        places = torch.tensor(better)[self._inner].to(self.device)
        for kept, leaf in zip(self._best, self._leaves, strict=True):
            kept[places] = leaf.detach()[places]

    def _zeros(self, *shape: int) -> Tensor:
        """Sums of losses and of right answers."""
        return torch.zeros(2, *shape, dtype=torch.float64, device=self.device)
