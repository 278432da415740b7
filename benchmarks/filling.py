"""Filling the cache in float32 and in bfloat16: images a second, what it changes in features, logits and accuracies.

Accuracies are measured with the bfloat16 of `bfloat16_rounding.py` where the processor has none: nearly the same values
in a tenth of the time.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from bfloat16_rounding import rounding
from common import Settings, Table, alternately, load_data, place, prepare, quiet, ratio, say, spread, wait_for_device
from common import with_cache as _with_cache

# isort: split
import torch

from thawlab.backbones import freezing
from thawlab.backbones.cut.find import Cut, find_cut
from thawlab.config.job import Job
from thawlab.data.images import ImageData
from thawlab.training import fit as fitting
from thawlab.training.cache import boundary, half_precision
from thawlab.training.cache.feature_cache import FeatureCache
from thawlab.training.cache.filling import prefix
from thawlab.training.cache.half_precision import Context, difference, in_bfloat16, in_hardware
from thawlab.training.evaluation import compute_test_metrics
from thawlab.training.preparation import Prepared

# Of the four kinds one each; random weights where none come with the installation: a product takes as long with them.
_RANDOM = "backbone.pretrained=false"
NETWORKS = {
    "resnet50": ("backbone=resnet50", _RANDOM),
    "tf_efficientnet_lite0": ("backbone=efficientnet_lite0",),
    "vit_small_patch16_224": ("backbone=vit_small", _RANDOM),
    "convnext_tiny": ("backbone=convnext_tiny", _RANDOM),
}
_TINY = {name: (f"backbone={name}", _RANDOM) for name in ("test_resnet", "test_vit", "test_convnext")}
_COMPARED = 8  # images, as a run does it
PRECISIONS = ("float32", "bfloat16")


def measure(settings: Settings) -> dict[str, Any]:
    """The speeds of four networks, and the accuracies of the default one with its weights."""
    data = load_data(settings)
    networks = _TINY if settings.smoke else NETWORKS
    seeds = settings.chosen(range(3), range(3), range(1))
    with quiet():
        speeds = {name: _speeds(_with_network(settings, given), data) for name, given in networks.items()}
        accuracies = _accuracies(settings, data, seeds)
    device, _ = place(settings.job().config)
    return {"in_hardware": in_hardware(device), "networks": speeds, "accuracies": accuracies}


def _with_network(settings: Settings, given: tuple[str, ...]) -> Settings:
    others = [each for each in settings.arguments if not each.startswith("backbone")]
    return replace(settings, arguments=(*others, *given, "freeze=all"))


def _speeds(settings: Settings, data: ImageData) -> dict[str, Any]:
    """Images a second through all stages, as one batch of them at a time fills the cache."""
    job = settings.job()
    prepared = prepare(job.config, data)
    device, context = place(job.config)
    half = in_bfloat16(device)
    cut, images = _cut(job, prepared, device, context)
    found = difference(cut, images[:_COMPARED], context, half)
    # Where it is emulated, a batch of 64 in bfloat16 takes minutes.
    size = settings.chosen(64, 64, 4) if in_hardware(device) else settings.chosen(16, 8, 4)
    batch = images.repeat(size // len(images) + 1, 1, 1, 1)[:size].contiguous(memory_format=_layout(job))

    def speed(how: Context) -> Callable[[], float]:
        def run() -> float:
            rounds = settings.chosen(3, 2, 1) if in_hardware(device) or how is context else 1
            wait_for_device()
            begun = time.perf_counter()
            for _ in range(rounds):
                with torch.no_grad(), how():
                    cut.prefix(batch)
            wait_for_device()
            return rounds * size / (time.perf_counter() - begun)

        return run

    speeds = alternately(
        {"float32": speed(context), "bfloat16": speed(half)}, settings.chosen(5, 3, 1), job.config.backbone.name
    )
    return {
        "images_per_second": speeds,
        "bfloat16/float32": ratio(speeds["bfloat16"], speeds["float32"]),
        "features": found.features,
        "logits": found.logits,
        "images": size,
    }


def _cut(job: Job, prepared: Prepared, device: torch.device, context: Context) -> tuple[Cut, torch.Tensor]:
    """The cut below the head, and images on the device."""
    model = prepared.network.model.to(device, memory_format=_layout(job))  # type: ignore[call-overload]
    freezing.train_only(model, prepared.phases[0].parameters)
    images = torch.cat([batch for batch, _ in prepared.loaders.plain_batches(_COMPARED)])
    images = images.to(device).contiguous(memory_format=_layout(job))
    depth = prepared.layers.stages_below(prepared.phases[0].parameters)
    with context():
        return find_cut(model.eval(), prefix(prepared, depth), images), images


def _layout(job: Job) -> torch.memory_format:
    return torch.channels_last if job.config.trainer.channels_last else torch.contiguous_format


def _accuracies(settings: Settings, data: ImageData, seeds: range) -> dict[str, Any]:
    """Test accuracies with features of both precisions, for each seed; a head that is solved for has none."""
    cache = settings.folder("cache")
    depth = settings.chosen("4", "4", "1")
    recipes: dict[str, tuple[tuple[str, ...], range]] = {
        "probe, solved": (("strategy=linear_probe", "strategy.solver=lbfgs"), range(1)),
        "probe, epochs": (("strategy=linear_probe", "strategy.solver=gradient"), seeds),
        f"freeze={depth}": ((f"freeze={depth}",), seeds),
    }
    rows = {}
    for name, (given, own_seeds) in recipes.items():
        found: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
        changed = []
        for seed in own_seeds:
            logits = {}
            for precision in PRECISIONS:
                values = {"dir": str(cache), "max_gb": 50, "compute": precision, "prefill": [int(depth)]}
                job = _with_cache(settings.job(*given, f"seed={seed}"), "require", **values)
                logits[precision] = _tested(job, data)
                found[precision].append(compute_test_metrics(logits[precision], data.test.labels)["test/acc"])
            predicted = [each.argmax(1) for each in logits.values()]
            changed.append(float((predicted[0] != predicted[1]).mean()))
            say(f"{name}, seed {seed}: {', '.join(f'{key} {values[-1]:.2%}' for key, values in found.items())}")
        rows[name] = {"accuracy": found, "predictions_changed": changed}
    return {"test_images": len(data.test), "train_images": len(data.train), "recipes": rows}


def _tested(job: Job, data: ImageData) -> Any:
    """Logits of the test images; bfloat16 is used here even where a run would refuse it."""
    prepared = prepare(job.config, data)

    def rounded(device: torch.device) -> Context:
        return in_bfloat16(device) if in_hardware(device) else lambda: rounding(prepared.network.model)

    with patch.object(half_precision, "MOST", float("inf")), patch.object(boundary, "in_bfloat16", rounded):
        cache = FeatureCache(job.config, prepared)
        logits = fitting.fit(job.config, prepared, Path(job.output_dir), cache=cache).test().logits
    assert bool(cache.totals.half) == (job.config.cache.compute == "bfloat16")
    return logits


def table(results: Mapping[str, Any]) -> Table:
    """A row for each network, then one for each recipe."""
    rows = []
    for name, found in results["networks"].items():
        one, other = (statistics.median(found["images_per_second"][precision]) for precision in PRECISIONS)
        changed = f"features {found['features']:.1%}, logits {found['logits']:.1%}"
        rows.append((name, f"{one:,.1f}", f"{other:,.1f}", spread(found["bfloat16/float32"]), changed))
    for name, found in results["accuracies"]["recipes"].items():
        one, other = (statistics.mean(found["accuracy"][precision]) for precision in PRECISIONS)
        changed = f"{statistics.mean(found['predictions_changed']):.1%} of the predictions"
        rows.append((f"{name}, % right", f"{one:.2%}", f"{other:.2%}", f"{100 * (other - one):+.2f} points", changed))
    where = "in hardware" if results["in_hardware"] else "emulated"
    columns = ("images a second", "float32", f"bfloat16, {where}", "bfloat16 / float32", "what changes")
    return Table("Filling the cache", columns, rows)
