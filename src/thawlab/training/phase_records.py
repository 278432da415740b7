"""What came of a phase, written down once it is complete, so that it is done once over resumes."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import nn

from thawlab.system.atomic import write_atomically
from thawlab.training.best_epoch import Best
from thawlab.training.checkpoints import copy_whole, network_state, read_whole
from thawlab.training.epochs import Epochs
from thawlab.training.trainer import best_epoch, callbacks_of

_RECORD = "done.json"


@dataclass(frozen=True)
class FittedPhase:
    """What one phase left behind.

    Attributes:
        best: its best epoch, counted over all phases.
        epochs: how many it took; fewer than planned where training stopped early.
        audited: frozen tensors that were compared.
        seconds: in its epochs, validation included.
        training_seconds: in its training steps.
        images: trained on, over all processes.
    """

    best: Best
    epochs: int
    audited: int
    seconds: float
    training_seconds: float
    images: int


def recorded(folder: Path, trainer: pl.Trainer, first_epoch: int, audited: int) -> FittedPhase:
    """The phase's outcome, written down in its folder only now that it is complete."""
    epochs = callbacks_of(trainer, Epochs)[0]
    best = best_epoch(trainer)
    fitted = FittedPhase(
        replace(best, epoch=best.epoch + first_epoch),
        # Also right where a resumed run found nothing left to train.
        trainer.fit_loop.epoch_progress.current.processed,  # type: ignore[attr-defined]
        audited,
        epochs.seconds,
        epochs.training_seconds,
        epochs.images,
    )
    if trainer.is_global_zero:
        content: dict[str, Any] = asdict(fitted)
        content["best"]["checkpoint"] = fitted.best.checkpoint.name
        write_atomically(folder / _RECORD, json.dumps(content, indent=2))
    return fitted


def end_as_trained(trainer: pl.Trainer, model: nn.Module, checkpoint: Path) -> None:
    """Leave the network and `last.ckpt` as the end of a training does, where a resumed run found nothing left to train.

    Lightning leaves the weights of the last step in place of their averages then.
    """
    if callbacks_of(trainer, Epochs)[0].trained:
        return
    model.load_state_dict(network_state(checkpoint))
    if trainer.is_global_zero and checkpoint.name != "last.ckpt":
        copy_whole(checkpoint, checkpoint.with_name("last.ckpt"))


def restored(folder: Path, model: nn.Module) -> FittedPhase | None:
    """A phase that was complete before the run was interrupted: its outcome, and the network as it left it.

    None if it was not, or if what it left is damaged.
    """
    try:
        content = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        best = content.pop("best")
        fitted = FittedPhase(Best(**{**best, "checkpoint": folder / best["checkpoint"]}), **content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    last = folder / "last.ckpt"
    if read_whole(last) is None or read_whole(fitted.best.checkpoint) is None:
        return None
    model.load_state_dict(network_state(last))
    return fitted
