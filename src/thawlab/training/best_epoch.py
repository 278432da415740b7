"""Which epoch's network is kept and tested: told from the validation images alone.

Accuracy on few validation images takes few values and cannot tell epochs apart, so each rule says what decides between
equals: the loss, which every image moves, and at last the later epoch, which has trained for longer.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from thawlab.config.small_data import Rule

FILE_NAME = "best.ckpt"
# The state of the callback that kept the best epoch in checkpoints of version 0.1.0.
_EARLIER = "ModelCheckpoint{'monitor': 'val/acc', 'mode': 'max'"


@dataclass(frozen=True)
class Best:
    """An epoch, and how its network did on the validation images.

    Attributes:
        accuracy: share of the images that are right.
        epoch: counted from 0.
        checkpoint: the file that holds its network.
        loss: mean cross-entropy; infinite where it is not known.
        balanced_accuracy: mean recall over the classes that occur; NaN where it is not known.
    """

    accuracy: float
    epoch: int
    checkpoint: Path
    loss: float = inf
    balanced_accuracy: float = nan


def rank(rule: Rule, best: Best) -> tuple[float, ...]:
    """What epochs are ordered by, the best one highest; an epoch whose loss is NaN comes before no other."""
    epoch = float(best.epoch)
    return (epoch,) if rule == "last" else (measure(rule, best), -best.loss if best.loss < inf else -inf, epoch)


def measure(rule: Rule, best: Best) -> float:
    """The number that a rule looks at first, higher is better; the loss where the rule is to take the last epoch."""
    values = {"acc": best.accuracy, "balanced_acc": best.balanced_accuracy, "loss": -best.loss, "last": -best.loss}
    return -inf if isnan(best.loss) or isnan(values[rule]) else values[rule]


class BestEpoch(Checkpoint):
    """Keeps the network of the best epoch as `best.ckpt`, and ends training that no longer gets better.

    Args:
        folder: where the checkpoint is written.
        rule: which of two epochs is the better one.
        patience: epochs without a better value of what the rule looks at first, before training stops; None = never.

    Attributes:
        best: of the epochs so far.
    """

    def __init__(self, folder: Path, rule: Rule, patience: int | None) -> None:
        self.folder, self.patience = folder, patience
        self.rule: Rule = rule
        self.best: Best | None = None
        self._peak: Best | None = None  # the first epoch with the best value

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop_if_due(trainer, trainer.current_epoch - 1)  # it was, and its process ended before it was recorded

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        values = trainer.callback_metrics
        now = Best(
            float(values["val/acc"]),
            trainer.current_epoch,
            self.folder / FILE_NAME,
            float(values["val/loss"]),
            float(values["val/balanced_acc"]),
        )
        if self._peak is None or measure(self.rule, now) > measure(self.rule, self._peak):
            self._peak = now
        if self.best is None or rank(self.rule, now) > rank(self.rule, self.best):
            self.best = now
            trainer.save_checkpoint(now.checkpoint)
        self._stop_if_due(trainer, now.epoch)

    def state_dict(self) -> dict[str, Any]:
        return {name: _plain(value) for name, value in (("best", self.best), ("peak", self._peak)) if value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self._peak = (_restored(state_dict.get(name), self.folder) for name in ("best", "peak"))

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        states: Mapping[str, Any] = checkpoint["callbacks"]
        earlier = next((state for name, state in states.items() if name.startswith(_EARLIER)), None)
        kept = self.folder / FILE_NAME
        if earlier is not None and earlier["best_model_score"] is not None and kept.is_file():
            epoch = torch.load(kept, map_location="cpu", weights_only=True)["epoch"]
            self.best = self._peak = Best(float(earlier["best_model_score"]), int(epoch), kept)

    def _stop_if_due(self, trainer: pl.Trainer, epoch: int) -> None:
        if self.patience is not None and self._peak is not None and epoch - self._peak.epoch >= self.patience:
            trainer.should_stop = True


def _plain(best: Best) -> dict[str, Any]:
    return {**asdict(best), "checkpoint": best.checkpoint.name}


def _restored(plain: Mapping[str, Any] | None, folder: Path) -> Best | None:
    if plain is None:
        return None
    return replace(Best(**plain), checkpoint=folder / plain["checkpoint"])
