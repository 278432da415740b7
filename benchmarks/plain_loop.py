"""Full fine-tuning against a plain training loop, written by hand on timm's loader: same network, images and settings.

By itself it prints a line of JSON for each round, and one for the result:
`python benchmarks/plain_loop.py [KEY=VALUE …] [--data FOLDER]`.
"""

import argparse
import io
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest.mock import patch

import common
from common import Settings, Table, alternately, load_data, place, prepare, ratio, spread, wait_for_device, with_cache

# isort: split
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from PIL import Image
from timm.data.dataset import ImageDataset
from timm.data.loader import create_loader
from timm.optim._optim_factory import create_optimizer_v2
from torch import nn

from thawlab.config.job import Job
from thawlab.data.cpu_and_memory import auto_workers
from thawlab.data.images import Split
from thawlab.training.preparation import Prepared
from thawlab.training.trainer import precision_name, quiet_lightning

# Random crops and mirror images, as augment=light, on top of the benchmarks' augment=none.
_SETTINGS = ("freeze=0", "epochs=1", "augment.crop_scale=0.5", "augment.hflip=0.5")
_WARM = 3  # steps before the clock starts: workers start, kernels are chosen


class _Clock:
    """Wall time and processor time of this process and its workers, between two steps."""

    def __init__(self) -> None:
        self.seconds = self.cpu = 0.0

    def start(self) -> None:
        wait_for_device()
        self.seconds, self.cpu = -time.perf_counter(), -_cpu_seconds()

    def stop(self) -> None:
        wait_for_device()
        self.seconds += time.perf_counter()
        self.cpu += _cpu_seconds()


class _Clocked(common.Watch):
    """Also takes the processor time of the steps that count."""

    clock: _Clock
    warm: int
    count: int

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if batch_idx + 1 == self.warm:
            self.count = 0
            self.clock.start()
        elif batch_idx + 1 > self.warm:
            self.count += len(batch[1])
        if batch_idx + 1 == trainer.num_training_batches:
            self.clock.stop()


class _Files:
    """A reader as timm's data sets take it: open file and label, by position."""

    def __init__(self, split: Split) -> None:
        self.paths, self.labels = split.paths, split.labels.tolist()
        self.made = [b"" if path else _png(split.read(i)) for i, path in enumerate(split.paths)]  # of no file

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        path = self.paths[index]
        return Path(path).open("rb") if path else io.BytesIO(self.made[index]), self.labels[index]


class PlainLoop:
    """What one would write by hand with timm, for the settings of a job."""

    def __init__(self, job: Job, prepared: Prepared) -> None:
        config = job.config
        self.config, self.size, self.preprocessing = config, prepared.image_size, prepared.network.preprocessing
        self.files = _Files(prepared.data.train)
        self.device, _ = place(config)
        self.precision = precision_name(config.trainer)
        self.model = deepcopy(prepared.network.model).requires_grad_(True).to(self.device)
        if config.trainer.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loader(self) -> Any:
        """timm's own, with its prefetching and its uint8 batches."""
        augment, workers = self.config.augment, self.config.trainer.workers
        return create_loader(
            ImageDataset("", reader=self.files),
            input_size=(3, self.size, self.size),
            batch_size=self.config.batch_size,
            is_training=True,
            scale=(augment.crop_scale, 1.0),
            hflip=augment.hflip,
            color_jitter=0.0,
            interpolation=self.preprocessing["interpolation"],
            mean=self.preprocessing["mean"],
            std=self.preprocessing["std"],
            num_workers=auto_workers(1) if workers == "auto" else workers,
            persistent_workers=workers != 0,
            pin_memory=self.device.type == "cuda",
            device=self.device,
        )

    def run(self, steps: int, clock: _Clock, warm: int) -> int:
        """Train for so many steps; the clock runs after the first `warm`. Returns the images of those steps."""
        config, model = self.config, self.model
        model.train()
        settings = {"opt": config.optimizer.name, "lr": config.optimizer.lr, **config.optimizer.options}
        optimizer = create_optimizer_v2(model, weight_decay=config.optimizer.weight_decay, **settings)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(self.precision)
        scaler = torch.amp.GradScaler(self.device.type, enabled=dtype is torch.float16)
        parameters = list(model.parameters())
        losses, right, seen = torch.zeros((), device=self.device), torch.zeros((), device=self.device), 0
        layout = torch.channels_last if config.trainer.channels_last else torch.contiguous_format
        batches = iter(self.loader())  # kept until the clock has read what its workers used
        for step, (images, labels) in enumerate(batches, start=1):
            with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
                logits = model(images.contiguous(memory_format=layout))
                loss = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            if config.trainer.clip is not None:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(parameters, config.trainer.clip)
            scaler.step(optimizer)
            scaler.update()
            schedule.step()
            losses += loss.detach() * len(labels)
            right += (logits.argmax(1) == labels).sum()
            if step == warm:
                seen = 0
                clock.start()
            elif step > warm:
                seen += len(labels)
            if step == steps:
                break
        clock.stop()
        del batches
        return seen


def measure(settings: Settings) -> dict[str, Any]:
    """Images a second of both in turn, and what they cost in processor time."""
    data = load_data(settings)
    job = with_cache(settings.job(*_SETTINGS), "off")
    prepared = prepare(job.config, data)
    plain = PlainLoop(job, prepared)
    available = len(data.train) // job.config.batch_size  # timm's loader leaves the last batch out
    steps = min(_WARM + settings.chosen(40, 15, 2), available)
    warm = min(_WARM, steps - 1)
    cpu: dict[str, list[float]] = {"thawlab": [], "plain": []}

    def by_thawlab() -> float:
        clock, made_watches = _Clock(), list[_Clocked]()

        def watch(limit: int | None) -> _Clocked:
            made = _Clocked(limit)
            made.clock, made.warm, made.count = clock, warm, 0
            made_watches.append(made)
            return made

        with patch.object(common, "Watch", watch):
            common.fit(settings.again(job), prepared, limit=steps)
        cpu["thawlab"].append(1e3 * clock.cpu / made_watches[0].count)
        return made_watches[0].count / clock.seconds

    def by_hand() -> float:
        clock = _Clock()
        images = plain.run(steps, clock, warm)
        cpu["plain"].append(1e3 * clock.cpu / images)
        return images / clock.seconds

    acts: dict[str, Callable[[], float]] = {"thawlab": by_thawlab, "plain": by_hand}
    speeds = alternately(acts, settings.chosen(7, 5, 1), "full fine-tuning, images a second")
    return {
        "images_per_second": speeds,
        "cpu_ms_per_image": cpu,
        "thawlab/plain": ratio(speeds["thawlab"], speeds["plain"]),
        "cpu thawlab/plain": ratio(cpu["thawlab"], cpu["plain"]),
        "steps": steps - warm,
    }


def table(results: Mapping[str, Any]) -> Table:
    """A row for each, and their ratio."""
    speeds, cpu = results["images_per_second"], results["cpu_ms_per_image"]
    rows = [(name, f"{statistics.median(speeds[name]):,.1f}", f"{statistics.median(cpu[name]):.1f}") for name in speeds]
    rows.append(("thawlab / plain", spread(results["thawlab/plain"]), spread(results["cpu thawlab/plain"])))
    return Table("Full fine-tuning against a plain loop on timm's loader", ("", "images/s", "CPU ms an image"), rows)


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


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def main(arguments: list[str]) -> int:
    """Measure by itself and print JSON lines."""
    parser = argparse.ArgumentParser(prog="plain_loop.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--data", type=Path, help="folder of photographs, one folder a class; without it the digits")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and steps")
    parser.add_argument("--smoke", action="store_true", help="only see that it runs")
    given = parser.parse_intermixed_args(arguments)
    quiet_lightning()
    dataset = ["dataset=folder", f"dataset.root={given.data.resolve()}"] if given.data else []
    with tempfile.TemporaryDirectory(prefix="plain_loop_") as scratch:
        settings = Settings((*dataset, *given.overrides), "images", given.quick, given.smoke, Path(scratch))
        results = measure(settings)
    speeds, cpu = results["images_per_second"], results["cpu_ms_per_image"]
    for number, (one, other) in enumerate(zip(speeds["thawlab"], speeds["plain"], strict=True)):
        costs = {"thawlab_cpu_ms": cpu["thawlab"][number], "plain_cpu_ms": cpu["plain"][number]}
        print(json.dumps({"round": number + 1, "thawlab": one, "plain": other, "ratio": one / other, **costs}))
    print(json.dumps({key: results[key] for key in ("thawlab/plain", "cpu thawlab/plain", "steps")}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
