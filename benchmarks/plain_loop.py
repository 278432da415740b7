"""A plain training loop, written by hand on timm's loader: what a run is measured against."""

import io
from copy import deepcopy
from pathlib import Path
from typing import Any

from clock import Clock
from common import place

# isort: split
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
from thawlab.training.trainer import precision_name


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

    def run(self, steps: int, clock: Clock, warm: int) -> int:
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
        clock.begin()
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
            clock.step_ends(step)
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


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
