"""The default linear probe as one types it, against scikit-learn on features extracted once, and without the cache.

Each is a command in a process of its own, from its start to its end: start-up and everything that is recorded count.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from common import Settings, Table, alternately, ratio, say, spread

_PROGRAM = "import sys; from thawlab.cli.main import train; sys.exit(train(sys.argv[1:]))"
_ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
# What is typed beside the data: all else is as it is by default.
COMMANDS = {
    "default": ("strategy=linear_probe",),
    "without the cache": ("strategy=linear_probe", "cache=off"),
    "by steps": ("strategy=linear_probe", "strategy.solver=gradient"),
    "by steps, without the cache": ("strategy=linear_probe", "strategy.solver=gradient", "cache=off"),
}
_UNCACHED = {"default": "without the cache", "by steps": "by steps, without the cache"}
_SCIKIT = "scikit-learn"
_AGAIN = "default, once more"


def measure(settings: Settings) -> dict[str, Any]:
    """Seconds and accuracies of all, in turn; each command but one finds nothing that is stored.

    Quick: one round; smoke: by default alone, beside scikit-learn.
    """
    rounds = settings.chosen(3, 1, 1)
    scores: dict[str, list[dict[str, float]]] = {}
    parts: list[dict[str, float]] = []
    caches: list[Path] = []

    def command(name: str, given: tuple[str, ...]) -> Callable[[], float]:
        def act() -> float:
            if name != _AGAIN:
                caches.append(settings.folder("cache"))
            seconds, metrics = _run(settings, (*given, f"cache.dir={caches[-1]}"))
            scores.setdefault(name, []).append(metrics)
            return seconds

        return act

    def scikit() -> float:
        begun = time.perf_counter()
        found = json.loads(_started([sys.executable, Path(__file__).with_name("scikit_probe.py"), *settings.arguments]))
        seconds = time.perf_counter() - begun
        scores.setdefault(_SCIKIT, []).append({key: found[key] for key in ("best/val_acc", "test/acc")})
        parts.append({key: found[key] for key in ("start", "forward", "solve")})
        return seconds

    def default_twice() -> float:
        """The second one finds what the first has stored."""
        seconds = command("default", COMMANDS["default"])()
        again.append(command(_AGAIN, COMMANDS["default"])())
        return seconds

    again: list[float] = []
    chosen = settings.chosen(COMMANDS, COMMANDS, {"default": COMMANDS["default"]})
    acts = {name: command(name, given) for name, given in chosen.items()} | {"default": default_twice}
    seconds = alternately({**acts, _SCIKIT: scikit}, rounds, "linear probes, seconds")
    seconds[_AGAIN] = again
    # What no probe can do without: the start, and each image through the network once.
    floors = [each["start"] + each["forward"] for each in parts]
    return {
        "seconds": seconds,
        "scores": scores,
        "scikit_parts": parts,
        "default/floor": ratio(seconds["default"], floors),
        "default/scikit-learn": ratio(seconds["default"], seconds[_SCIKIT]),
        "with/without the cache": {
            name: ratio(seconds[name], seconds[without]) for name, without in _UNCACHED.items() if without in seconds
        },
    }


def _run(settings: Settings, given: tuple[str, ...]) -> tuple[float, dict[str, float]]:
    """Seconds of a command, and what came of it."""
    folder = settings.folder("run")
    places = (f"tracking.root={folder / 'mlruns'}", f"hydra.run.dir={folder / 'output'}")
    begun = time.perf_counter()
    _started([sys.executable, "-c", _PROGRAM, *settings.arguments, *given, *places])
    seconds = time.perf_counter() - begun
    metrics = json.loads((folder / "output" / "result.json").read_text(encoding="utf-8"))["metrics"]
    say(f"{' '.join(given[:-1])}: {seconds:.1f} s, test acc {metrics['test/acc']:.4f}")
    return seconds, {key: metrics[key] for key in ("best/val_acc", "test/acc")}


def _started(command: list[Any]) -> str:
    done = subprocess.run(command, env=_ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"it ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def table(results: Mapping[str, Any]) -> Table:
    """A row for each command; the floor is the start and one forward pass over all images."""
    seconds = {name: statistics.median(values) for name, values in results["seconds"].items()}
    part = {
        key: statistics.median(each[key] for each in results["scikit_parts"]) for key in ("start", "forward", "solve")
    }
    floor = part["start"] + part["forward"]
    of_which = {_SCIKIT: f"{part['start']:.1f} s start, {part['forward']:.1f} s forward, {part['solve']:.1f} s solving"}
    ratios = {name: spread(found) for name, found in results["with/without the cache"].items()}
    rows = [
        (
            name,
            f"{took:.1f}",
            f"{took / floor:.2f}",
            f"{100 * results['scores'][name][0]['best/val_acc']:.1f}",
            f"{100 * results['scores'][name][0]['test/acc']:.1f}",
            ratios.get(name, ""),
            of_which.get(name, ""),
        )
        for name, took in seconds.items()
    ]
    columns = ("", "seconds", "times the floor", "val acc", "test acc", "times its run without the cache", "of which")
    return Table("Linear probes, whole commands", columns, rows)
