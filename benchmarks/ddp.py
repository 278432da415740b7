"""Distributed training with one device against training without it: the same command, images a second and accuracy."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from common import Settings, Table, alternately, ratio, spread

# isort: split
import torch

import thawlab

_PLAIN, _DDP = "one process", "ddp, one device"


def measure(settings: Settings) -> dict[str, Any]:
    """Whole commands in turn, each a process of its own: what they say of their speed, and how long they take."""
    place = "gpu" if torch.cuda.is_available() else "cpu"
    ways = {
        _PLAIN: (f"trainer={place}",),
        _DDP: ("trainer=ddp", "trainer.devices=1", f"trainer.accelerator={place}"),
    }
    given = [each for each in settings.arguments if not each.startswith("trainer=")]
    given += ["freeze=0", "cache=off", f"epochs={settings.chosen(3, 2, 1)}"]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    accuracies: dict[str, list[float]] = {name: [] for name in ways}

    def command(name: str) -> Callable[[], float]:
        def run() -> float:
            folder, begun = settings.folder("ddp"), time.perf_counter()
            places = (f"hydra.run.dir={folder / 'run'}", f"tracking.root={folder / 'mlruns'}")
            found = thawlab.train(*given, *ways[name], *places)
            assert isinstance(found, thawlab.Result)
            seconds[name].append(time.perf_counter() - begun)
            accuracies[name].append(found.metrics["test/acc"])
            return found.metrics["cost/images_per_second"]

        return run

    speeds = alternately({name: command(name) for name in ways}, settings.chosen(3, 1, 1), "training, images a second")
    return {
        "images_per_second": speeds,
        "seconds": seconds,
        "test_accuracy": accuracies,
        "ddp/one process": ratio(speeds[_DDP], speeds[_PLAIN]),
    }


def table(results: Mapping[str, Any]) -> Table:
    """A row for each way, and the ratio of their speeds."""
    rows = []
    for name, speeds in results["images_per_second"].items():
        seconds, accuracy = (statistics.median(results[key][name]) for key in ("seconds", "test_accuracy"))
        rows.append((name, f"{statistics.median(speeds):,.1f}", f"{seconds:.1f}", f"{accuracy:.2%}"))
    rows.append(("ddp / one process", spread(results["ddp/one process"]), "", ""))
    columns = ("", "images/s", "whole command, s", "test accuracy")
    return Table("Distributed training with one device", columns, rows)
