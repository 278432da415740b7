"""How long the steps of a training take, and what they cost: wall time, processor time, memory of the GPU."""

import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import common
from common import wait_for_device

# isort: split
import pytorch_lightning as pl
import torch


class Clock:
    """Wall time and processor time of this process and its workers, between two steps.

    Attributes:
        seconds, cpu: between `start` and `stop`.
        first_step: seconds from the beginning of the loop to the end of the first step.
        memory_mb: of the GPU, at most, beyond what was in use when the clock was made; 0 without one.
    """

    def __init__(self) -> None:
        self.seconds = self.cpu = self.first_step = self.memory_mb = 0.0
        self._held = 0
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            self._held = torch.cuda.memory_allocated()
        self._begun = time.perf_counter()

    def begin(self) -> None:
        """The loop begins; without a word, it did when the clock was made."""
        self._begun = time.perf_counter()

    def step_ends(self, number: int) -> None:
        """One of the steps is over, the first being number 1."""
        if number == 1:
            wait_for_device()
            self.first_step = time.perf_counter() - self._begun

    def start(self) -> None:
        """What counts begins."""
        wait_for_device()
        self.seconds, self.cpu = -time.perf_counter(), -_cpu_seconds()

    def stop(self) -> None:
        """It has ended."""
        wait_for_device()
        self.seconds += time.perf_counter()
        self.cpu += _cpu_seconds()
        if torch.cuda.is_available():
            self.memory_mb = (torch.cuda.max_memory_allocated() - self._held) / 2**20


class Clocked(common.Watch):
    """Also takes the times of the steps that count: all but the first `warm`; `count` is how many images they had."""

    clock: Clock
    warm: int
    count: int

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_start(trainer, pl_module)
        self.clock.begin()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self.clock.step_ends(batch_idx + 1)
        if batch_idx + 1 == self.warm:
            self.count = 0
            self.clock.start()
        elif batch_idx + 1 > self.warm:
            self.count += len(batch[1])
        if batch_idx + 1 == trainer.num_training_batches:
            self.clock.stop()


def _cpu_seconds() -> float:
    """Processor time of this process and of the workers that it has now (those on Linux alone)."""
    used = time.process_time()
    for child in multiprocessing.active_children():
        try:
            fields = Path(f"/proc/{child.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        used += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return used
