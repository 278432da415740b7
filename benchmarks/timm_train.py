"""timm's own train.py on the same images and recipe, as a process of its own; it comes with timm's sources alone."""

import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

from thawlab.config.job import Job
from thawlab.data.cpu_and_memory import auto_workers
from thawlab.training.preparation import Prepared

# The environment variable that says where it lies.
VARIABLE = "TIMM_TRAIN"
# A line of its log: Train: 0 [  12/50 ( 24%)]  Loss: 2.1 (2.2)  Time: 0.318s,  402.89/s  (0.330s,  388.2/s)  …
_SPEED = re.compile(r"Train: \d+ \[\s*(\d+)/.*?Time: [\d.]+s,\s*([\d.]+)/s")
_SECONDS = 120


def program() -> Path | None:
    """Where timm's train.py lies, if it is at hand."""
    path = os.environ.get(VARIABLE)
    return Path(path) if path and Path(path).is_file() else None


def images_per_second(train: Path, job: Job, prepared: Prepared, on_gpu: bool, folder: Path) -> float:
    """The median over the later half of each epoch's steps; an epoch begins with workers that start.

    Raises:
        RuntimeError: it failed, or said nothing of its speed.
        subprocess.TimeoutExpired: it took too long.
    """
    command = [sys.executable, str(train), *_arguments(job, prepared, on_gpu, folder)]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=_SECONDS)
    said = found.stdout + found.stderr
    speeds = [(int(step), float(speed)) for step, speed in _SPEED.findall(said)]
    half = max((step for step, _ in speeds), default=0) // 2
    later = [speed for step, speed in speeds if step > half]
    if found.returncode or not later:
        raise RuntimeError(f"timm's train.py ended with {found.returncode}: {said[-2000:]}")
    return statistics.median(later)


def _arguments(job: Job, prepared: Prepared, on_gpu: bool, folder: Path) -> list[str]:
    config, preprocessing = job.config, prepared.network.preprocessing
    workers = auto_workers(1) if config.trainer.workers == "auto" else config.trainer.workers
    values = {
        "data-dir": Path(config.dataset.root).expanduser().resolve(),  # type: ignore[attr-defined]
        "val-split": "",
        "model": config.backbone.name,
        "num-classes": len(prepared.data.classes),
        "img-size": prepared.image_size,
        "interpolation": preprocessing["interpolation"],
        "epochs": 1,
        "batch-size": config.batch_size,
        "opt": config.optimizer.name,
        "lr": config.optimizer.lr,
        "weight-decay": config.optimizer.weight_decay,
        "smoothing": config.label_smoothing,
        "color-jitter": 0,
        "hflip": config.augment.hflip,
        "workers": workers,
        "log-interval": 1,
        "output": folder / "timm",
        "device": "cuda" if on_gpu else "cpu",
    }
    given = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    given += ["--scale", str(config.augment.crop_scale), "1.0"]
    given += ["--clip-grad", str(config.trainer.clip)] if config.trainer.clip is not None else []
    given += ["--channels-last"] if config.trainer.channels_last else []
    return given + (["--amp", "--amp-dtype", "bfloat16"] if on_gpu else [])
