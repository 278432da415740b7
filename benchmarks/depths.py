"""Training images a second at each freeze depth: uncached, cached, and the bound that no training can pass.

The bound is a bare loop of the same steps (parameter groups, loss, clipping) on batches of activations that lie in
memory: no loader, no shuffling, no metrics, no checkpoints.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common import (
    Settings,
    Table,
    alternately,
    fit,
    load_data,
    opened,
    place,
    prepare,
    quiet,
    ratio,
    say,
    spread,
    wait_for_device,
    with_cache,
)

# isort: split
import torch
import torch.nn.functional as F
from torch import Tensor

from thawlab.backbones import freezing
from thawlab.config.schema import Config
from thawlab.data.feature_dataset import FeatureSet
from thawlab.data.images import ImageData
from thawlab.training.cache.feature_cache import Cached
from thawlab.training.optimizers import create_optimizer, parameter_groups
from thawlab.training.preparation import Prepared

_MOST_BYTES = 3e8  # of the batches of the bound, which a processor's caches do not hold
_WARM = 3  # steps at the beginning that do not count


def measure(settings: Settings) -> dict[str, Any]:
    """The speeds of all depths, one after the other."""
    data, folder = load_data(settings), settings.folder("cache")
    stages = prepare(settings.job().config, data).layers.stages
    depths = [each for each in range(1, len(stages) + 1) if each == 1 or stages[each - 1].parameters]
    if settings.quick or settings.smoke:
        depths = sorted({depths[1], depths[len(depths) // 2], depths[-1]})
    rows = []
    for depth in depths:
        freeze = "stem" if depth == 1 else str(depth - 1)
        found = _measure_depth(settings, f"freeze={freeze}", data, folder)
        rows.append({"freeze": freeze, "stage": stages[depth - 1].name, **found})
    return {"depths": rows}


def _measure_depth(settings: Settings, freeze: str, data: ImageData, folder: Path) -> dict[str, Any]:
    cache = {"dir": str(folder), "prefill": "all", "max_gb": 50}
    job = with_cache(settings.job(freeze, "epochs=1"), "require", **cache)
    prepared = prepare(job.config, data)
    say(f"{freeze}: opening the cache")
    with quiet():
        cached, _ = opened(job, prepared)
    bare = bare_loop(job.config, prepared, cached)
    _, per_epoch = bare(3), math.ceil(len(data.train) / job.config.batch_size)
    # Steps of one measurement: whole epochs, after one to warm up, or the first part of one, after a few steps.
    wanted = settings.chosen(3.0, 2.0, 0.0) * bare(3) / job.config.batch_size
    epochs = min(round(wanted / per_epoch), 60)
    limit = None if epochs else min(max(round(wanted), 8), per_epoch - _WARM)
    longer = with_cache(settings.job(freeze, f"epochs={epochs + 1}"), "require", **cache)
    several = prepare(longer.config, data)
    between: list[float] = []
    uncached = with_cache(settings.job(freeze, "epochs=2"), "off")
    plain = prepare(uncached.config, data)
    _decode(plain)  # as in all epochs but the first, images are in memory

    def with_stored() -> float:
        timed = fit(settings.again(longer), several, limit and limit + _WARM)
        assert timed.cache.totals.filled == 0
        between.append(timed.watch.between())
        return timed.watch.speed(0, _WARM) if limit else timed.watch.speed()

    def with_images() -> float:
        timed = fit(settings.again(uncached), plain, settings.chosen(7, 5, 2) + _WARM)
        return timed.watch.speed(0, _WARM)

    acts: dict[str, Callable[[], float]] = {
        "bound": lambda: bare(limit or epochs * per_epoch),
        "cached": with_stored,
        "uncached": with_images,
    }
    speeds = alternately(acts, settings.chosen(4, 3, 1), freeze)
    return {
        "images_per_second": speeds,
        "cached/bound": ratio(speeds["cached"], speeds["bound"]),
        "cached/uncached": ratio(speeds["cached"], speeds["uncached"]),
        "steps": limit or epochs * per_epoch,
        "between_epochs_seconds": statistics.median(between),
        "kb_per_image": sum(value[0].nbytes for value in cached.features["train"].values) / 1e3,
    }


def _decode(prepared: Prepared) -> None:
    loaders = prepared.loaders
    images = loaders.memory.dataset(prepared.data.train, loaders.train_transform)
    for position in range(len(images)):
        images.split.read(position)


def bare_loop(config: Config, prepared: Prepared, cached: Cached) -> Callable[[int], float]:
    """A function that takes so many steps, and returns images a second. The network is trained on."""
    model, phase, train = prepared.network.model, prepared.phases[0], cached.features["train"]
    device, context = place(config)
    batches = _batches(train, config.batch_size, device)
    groups = parameter_groups(model, phase.groups, config.optimizer.lr, config.optimizer.weight_decay)
    optimizer = create_optimizer(config.optimizer.name, groups, config.optimizer.lr, config.optimizer.options)
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    clip, smoothing = config.trainer.clip, config.label_smoothing

    def loop(steps: int) -> float:
        freezing.train_only(model, phase.parameters)
        model.train()
        freezing.eval_frozen(model)
        if phase.batch_norm == "eval":
            freezing.eval_batch_norm(model)
        images, begun = 0, 0.0
        for step in range(-_WARM, steps):
            if step == 0:
                wait_for_device()
                images, begun = 0, time.perf_counter()
            values, labels = batches[step % len(batches)]
            optimizer.zero_grad()
            with context():
                logits = cached.cut.suffix(values)
                loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
            loss.backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()
            images += len(labels)
        wait_for_device()
        return images / (time.perf_counter() - begun)

    return loop


def _batches(train: FeatureSet, size: int, device: torch.device) -> list[tuple[list[Tensor], Tensor]]:
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0)).tolist()
    found, total = [], 0.0
    for first in range(0, len(train), size):
        values, labels, _ = train.__getitems__([(0, position) for position in order[first : first + size]])
        total += sum(value.nbytes for value in values)
        if (found and total > _MOST_BYTES) or (len(labels) == 1 and found):
            break
        found.append(([value.to(device) for value in values], labels.to(device)))
    return found


def table(results: Mapping[str, Any]) -> Table:
    """A row for each depth."""
    rows: list[Sequence[str]] = []
    for row in results["depths"]:
        speeds = [f"{statistics.median(values):,.0f}" for values in row["images_per_second"].values()]
        rows.append(
            (
                f"{row['freeze']} ({row['stage']})",
                *speeds,
                spread(row["cached/bound"]),
                spread(row["cached/uncached"], 1),
                f"{1000 * row['between_epochs_seconds']:,.0f}",
            )
        )
    columns = ("freeze", "bound", "cached", "uncached", "cached / bound", "cached / uncached", "between epochs, ms")
    return Table("Training images a second by freeze depth", columns, rows)
