"""The LightningModule of a phase whose head is solved for: logistic regression on the features of the images."""

import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor, nn

from thawlab.backbones.linear_head import as_vectors, linear_head, note_features, write
from thawlab.config.divergence import DivergedError
from thawlab.config.small_data import Rule
from thawlab.strategies.phases import Logistic, Phase
from thawlab.training.base import Batch, ImageClassifier, Inputs
from thawlab.training.best_epoch import Best
from thawlab.training.evaluation import mean_recall
from thawlab.training.logistic import Solution, solutions
from thawlab.training.strength_choice import best_strength, in_words
from thawlab.training.trainer import callbacks_of


class LogisticProbe(ImageClassifier):
    """Solves for the head, for each strength C, and keeps the C that is best on validation images.

    A training epoch gathers the features of the training images, once each, over all processes. The first process
    solves; validation weighs all C at once. The rule that chooses epochs chooses C; of equals the smallest is taken.
    The network is in eval mode throughout.

    The Trainer must not average weights over steps: there are none.

    Args:
        model: maps images (B, 3, H, W) to logits (B, classes).
        classes: number of classes.
        phase: has `logistic` and the head as its only group; `model` has been frozen accordingly.
        channels_last: lay images out as the network's weights are.
        rule: which C is the better one; "last" says nothing of that, so the loss decides.
        note: is told which C was taken, as a sentence.
    """

    def __init__(
        self,
        model: nn.Module,
        classes: int,
        phase: Phase,
        channels_last: bool,
        rule: Rule = "acc",
        note: Callable[[str], object] = lambda _said: None,
    ) -> None:
        super().__init__(model, phase, channels_last)
        linear_head(model)
        assert phase.logistic is not None
        self.classes = classes
        self.rule: Rule = "loss" if rule == "last" else rule
        self.note = note
        self.logistic: Logistic = phase.logistic
        self._modes: dict[nn.Module, bool] = {}
        self._inputs: list[Tensor] = []  # of the classifier, in the last forward pass
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []  # positions, features, labels: of each training batch
        self._candidates: list[Solution] = []
        self._fitted: Tensor = torch.empty(0)  # (candidates, 2): accuracy and loss on the training images
        self._correct: Tensor = torch.empty(0)  # (candidates, classes): right ones among the images of each class
        self._losses: Tensor = torch.empty(0)  # (candidates,): summed over the images
        self._images: Tensor = torch.empty(0)  # (classes,)

    def on_fit_start(self) -> None:
        if callbacks_of(self.trainer, WeightAveraging):
            raise RuntimeError("weights that are solved for cannot be averaged over steps")
        self._hook = note_features(self.model, self._inputs)

    def on_fit_end(self) -> None:
        self._hook.remove()

    def on_train_epoch_start(self) -> None:
        self._modes = {module: module.training for module in self.model.modules()}
        self.model.eval()
        self._seen.clear()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels, positions = batch
        with torch.no_grad():
            features = self._features(images, len(labels))
        self._seen.append((positions.cpu(), features.float().cpu(), labels.cpu()))
        # Steps that move nothing: Lightning counts steps, and saves no checkpoint where there were none.
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        return torch.stack([parameter.sum() * 0.0 for parameter in trained]).sum()

    def on_validation_start(self) -> None:
        features, labels = self._gathered()
        self._check(bool(features.isfinite().all()), "training")
        pending = solutions(features, labels, *self._problem()) if self.global_rank == 0 else iter(())
        self._candidates = []
        fitted = []
        for index in range(len(self.logistic.strengths)):
            self._say(index)
            solution = next(pending, None)
            # One by one: the other processes wait no longer than one fit takes.
            solution = self.trainer.strategy.broadcast(solution)
            assert solution is not None
            self._candidates.append(solution)
            if self.global_rank == 0:
                logits = F.linear(features, solution.weight, solution.bias)
                fitted.append([_right(logits, labels) / len(labels), float(F.cross_entropy(logits, labels))])
        self._fitted = torch.tensor(self.trainer.strategy.broadcast(fitted))
        shape = (len(self._candidates), self.classes)
        self._correct = torch.zeros(shape, dtype=torch.float64, device=self.device)
        self._losses = torch.zeros(shape[0], dtype=torch.float64, device=self.device)
        self._images = torch.zeros(shape[1], dtype=torch.float64, device=self.device)
        self._warn()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, labels, _ = batch
        features = self._features(images, len(labels))
        for index, candidate in enumerate(self._candidates):
            bias = None if candidate.bias is None else candidate.bias.to(features.device)
            logits = F.linear(features, candidate.weight.to(features.device), bias).float()
            self._correct[index] += labels[logits.argmax(1) == labels].bincount(minlength=self.classes)
            self._losses[index] += F.cross_entropy(logits, labels, reduction="sum")
        self._images += labels.bincount(minlength=self.classes)

    def on_validation_epoch_end(self) -> None:
        parts = (self._correct, self._losses, self._images)
        correct, losses, images = (self.trainer.strategy.reduce(part, reduce_op="sum").cpu() for part in parts)
        self._check(bool(losses.isfinite().all()), "validation")
        count = images.sum()
        columns = (correct.sum(1) / count, losses / count, mean_recall(correct, images))
        # As if each C were an epoch: of equals the first one, which is the smallest.
        rows = [Best(acc, -i, Path(), loss, recall) for i, (acc, loss, recall) in enumerate(_rows(columns))]
        best = best_strength(self.rule, rows)
        chosen = self._candidates[best]
        self.note(in_words(self.rule, rows, [each.C for each in self._candidates], best))
        write(linear_head(self.model), chosen.weight, chosen.bias)
        values = {"train/acc": self._fitted[best, 0], "train/loss": self._fitted[best, 1], "probe/C": chosen.C}
        values |= {"val/acc": rows[best].accuracy, "val/loss": rows[best].loss}
        values |= {"val/balanced_acc": rows[best].balanced_accuracy}
        self.log_dict({name: float(value) for name, value in values.items()})

    def on_train_end(self) -> None:
        for module, training in self._modes.items():
            module.training = training

    def configure_optimizers(self) -> torch.optim.Optimizer:
        names = {name for group in self.phase.groups for name in group.parameters}
        trained = [parameter for name, parameter in self.model.named_parameters() if name in names]
        return torch.optim.SGD([{"params": trained, "name": self.phase.groups[0].name}], lr=0.0)

    def _features(self, inputs: Inputs, images: int) -> Tensor:
        """What the classifier is given, (B, D)."""
        self._inputs.clear()
        self(inputs)
        return as_vectors(self._inputs.pop(), images)

    def _problem(self) -> tuple[tuple[float, ...], int, int, bool]:
        bias = linear_head(self.model).bias is not None
        return self.logistic.strengths, self.logistic.max_iterations, self.classes, bias

    def _gathered(self) -> tuple[Tensor, Tensor]:
        """Features and labels of the training images, each once, in their order; in the other processes nothing."""
        parts = [self._seen]
        if self.trainer.world_size > 1:
            everyone: list[Any] | None = [None] * self.trainer.world_size if self.global_rank == 0 else None
            dist.gather_object(self._seen, everyone)
            parts = everyone or []
        batches = [batch for process in parts for batch in process]
        self._seen = []
        if not batches:
            return torch.empty(0), torch.empty(0)
        positions, features, labels = (torch.cat(part) for part in zip(*batches, strict=True))
        # Processes share the images out with some of them twice.
        order = torch.from_numpy(np.unique(positions.numpy(), return_index=True)[1])
        return features[order], labels[order]

    def _check(self, finite: bool, what: str) -> None:
        """Stop in all processes where the first of them has features that are not finite."""
        if not self.trainer.strategy.broadcast(finite):
            raise DivergedError(
                f"strategy={self.phase.name}: features of the {what} images are not finite (NaN or infinite), so that "
                "no head can be solved for; look at the weights (backbone.checkpoint_path) and the images, or use "
                "trainer.precision=32",
                "the features",
            )

    def _say(self, index: int) -> None:
        if sys.stdout.isatty():  # through the progress bar, if there is one; in the first process only
            strengths = sorted(self.logistic.strengths)
            self.print(f"logistic regression {index + 1} of {len(strengths)}: C={strengths[index]:g}")

    def _warn(self) -> None:
        unfinished = [f"{each.C:g}" for each in self._candidates if not each.converged]
        if unfinished and self.global_rank == 0:
            warnings.warn(
                f"max_iterations={self.logistic.max_iterations}: the logistic regression has not converged for "
                f"C={', '.join(unfinished)}; allow more iterations, or leave these values out",
                stacklevel=2,
            )


def _rows(columns: Sequence[Tensor]) -> list[tuple[float, ...]]:
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _right(logits: Tensor, labels: Tensor) -> int:
    return int((logits.argmax(1) == labels).sum())
