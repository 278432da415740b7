"""What an epoch was like and what it cost, reported once it is over."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

EpochReport = Callable[[int, Mapping[str, float]], None]  # epoch counted from 0 over all phases, metrics by name


class Epochs(pl.Callback):
    """Reports each epoch's metrics and learning rates once, and adds up what training cost, over resumes too."""

    def __init__(self, report: EpochReport, first_epoch: int) -> None:
        self.report = report
        self.first_epoch = first_epoch
        self.seconds = 0.0  # in epochs that were completed, validation included
        self.training_seconds = 0.0
        self.images = 0  # trained on, over all processes
        self.trained = 0  # epochs, by this process
        self._epoch_start = self._training_end = 0.0
        self._epoch_images = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._epoch_start = self._training_end = time.perf_counter()
        self._epoch_images = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Any, batch_idx: int
    ) -> None:
        images = batch.shape[1] if isinstance(batch, Tensor) else len(batch[1])  # many heads are given rows, (S, B)
        self._epoch_images += images * trainer.world_size
        self._training_end = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        now = time.perf_counter()
        self.trained += 1
        self.seconds += now - self._epoch_start
        self.training_seconds += self._training_end - self._epoch_start
        self.images += self._epoch_images
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if "/" in name}
        for group in trainer.optimizers[0].param_groups:
            metrics[f"lr/{group['name'].removesuffix(' (no decay)')}"] = float(group["lr"])
        metrics["seconds"] = now - self._epoch_start
        self.report(self.first_epoch + trainer.current_epoch, metrics)

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "training_seconds": self.training_seconds, "images": self.images}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds, self.images = state_dict["seconds"], state_dict["images"]
        self.training_seconds = state_dict["training_seconds"]
