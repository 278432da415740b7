"""From the start of `python train.py` to the first optimizer step, and to the end of help and of a refusal.

By itself: `python benchmarks/startup.py [KEY=VALUE …] [--data FOLDER]`; `--imports` lists what is slow to import.
"""

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# What a started run does, one after the other, by the mark at its end.
PARTS = ("configuration", "imports", "data", "network", "record", "first batch", "first step")
_SHORT = {"--help": ["--help"], "a mistake": ["freez=4"]}

# Runs train.py's own function; the marks are set from outside, and the process ends after the first step.
_PROGRAM = """
import multiprocessing, os, sys, time

def mark(name):
    print(f"MARK {name}: {time.time()} {time.process_time()}", file=sys.stderr, flush=True)

from thawlab.cli import main
from thawlab.launch import process

run_it = process._run_here_or_distributed

def marked(module, name, label, before=False):
    function = getattr(module, name)
    def wrapper(*args, **kwargs):
        if before:
            mark(label)
            return function(*args, **kwargs)
        result = function(*args, **kwargs)
        mark(label)
        return result
    setattr(module, name, wrapper)

def end(*_):
    mark("first step")
    for worker in multiprocessing.active_children():
        worker.kill()
    os._exit(0)

def start(job):
    mark("configuration")
    import thawlab.runs.run
    from torch.optim.optimizer import register_optimizer_step_post_hook
    from thawlab.training import classifier, preparation
    mark("imports")
    marked(preparation, "load_data", "data")
    marked(thawlab.runs.run, "prepare", "network")
    marked(thawlab.runs.run, "fit", "record", before=True)
    marked(classifier.Classifier, "training_step", "first batch", before=True)
    register_optimizer_step_post_hook(end)
    return run_it(job)

process._run_here_or_distributed = start
sys.exit(main.train(sys.argv[1:]))
"""


def measure(settings: Any) -> dict[str, Any]:
    """Start a run several times in processes of their own; `settings` are those of common.py."""
    folder = settings.folder("startup")
    return measured(settings.arguments, folder, settings.chosen(5, 3, 1))


def measured(arguments: Sequence[str], folder: Path, rounds: int) -> dict[str, Any]:
    """Seconds of wall and of processor time, of each part of a start and of what ends early."""
    parts: dict[str, dict[str, list[float]]] = {name: {"wall": [], "cpu": []} for name in PARTS}
    short: dict[str, dict[str, list[float]]] = {name: {"wall": [], "cpu": []} for name in _SHORT}
    for _ in range(rounds):
        for name, (wall, cpu) in _start(arguments, folder).items():
            parts[name]["wall"].append(wall)
            parts[name]["cpu"].append(cpu)
        for name, given in _SHORT.items():
            wall, cpu = _short(given, folder)
            short[name]["wall"].append(wall)
            short[name]["cpu"].append(cpu)
    return {"parts": parts, "short": short}


def _start(arguments: Sequence[str], folder: Path) -> dict[str, tuple[float, float]]:
    given = [*arguments, "freeze=0", "cache=off", "epochs=1"]
    begun = time.time()
    found = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *given],
        cwd=folder,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    marks = {
        name: (float(wall) - begun, float(cpu))
        for name, wall, cpu in re.findall(r"^MARK ([a-z ]+): (\S+) (\S+)$", found.stderr, re.MULTILINE)
    }
    if found.returncode or list(marks) != list(PARTS):
        raise RuntimeError(f"the run ended with {found.returncode} after {list(marks)}: {found.stdout}{found.stderr}")
    parts, last = {}, (0.0, 0.0)
    for name, (wall, cpu) in marks.items():
        parts[name], last = (wall - last[0], cpu - last[1]), (wall, cpu)
    return parts


def _short(arguments: Sequence[str], folder: Path) -> tuple[float, float]:
    """Seconds of a command that ends before anything is loaded."""
    before, begun = _children(), time.perf_counter()
    command = [sys.executable, "-c", "import sys; from thawlab.cli.main import train; sys.exit(train(sys.argv[1:]))"]
    subprocess.run([*command, *arguments], cwd=folder, env=_environment(), capture_output=True, check=False)
    return time.perf_counter() - begun, _children() - before


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _environment() -> dict[str, str]:
    """This process's own, so that the package is found where this process finds it."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def slow_imports(folder: Path, count: int = 40) -> list[tuple[int, str]]:
    """Milliseconds that modules take to import, all that they import included; the slowest last."""
    command = [sys.executable, "-X", "importtime", "-c", "import thawlab.runs.run"]
    text = subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True, check=True).stderr
    rows = re.findall(r"^import time:\s+\d+ \|\s+(\d+) \|\s*(\S+)$", text, re.MULTILINE)
    return sorted((int(cumulative) // 1000, name) for cumulative, name in rows)[-count:]


def table(results: Mapping[str, Any]) -> Any:
    """A row for each part, their sum, and what ends early; medians."""
    from common import Table

    def row(name: str, found: Mapping[str, Sequence[float]]) -> tuple[str, str, str]:
        return name, f"{statistics.median(found['wall']):.2f}", f"{statistics.median(found['cpu']):.2f}"

    parts = results["parts"]
    total = {
        kind: [sum(each) for each in zip(*(found[kind] for found in parts.values()), strict=True)]
        for kind in ("wall", "cpu")
    }
    rows = [row(name, found) for name, found in parts.items()]
    rows += [row("to the first step", total), *(row(name, found) for name, found in results["short"].items())]
    return Table("Start-up of train.py", ("part", "seconds", "CPU seconds"), rows)


def main(arguments: list[str]) -> int:
    """Measure by itself and print JSON lines."""
    parser = argparse.ArgumentParser(prog="startup.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--data", type=Path, help="folder of photographs, one folder a class; without it the digits")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--imports", action="store_true", help="only list what is slow to import, in milliseconds")
    given = parser.parse_intermixed_args(arguments)
    with tempfile.TemporaryDirectory(prefix="startup_") as scratch:
        if given.imports:
            print("\n".join(f"{milliseconds:6d}  {name}" for milliseconds, name in slow_imports(Path(scratch))))
            return 0
        dataset = ["dataset=folder", f"dataset.root={given.data.resolve()}"] if given.data else []
        results = measured((*dataset, *given.overrides), Path(scratch), given.rounds)
    for group in results.values():
        for name, found in group.items():
            medians = {kind: round(statistics.median(values), 3) for kind, values in found.items()}
            print(json.dumps({"part": name, **medians}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
