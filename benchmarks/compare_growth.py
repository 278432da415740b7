"""`thawlab compare` as the store grows: a sweep of 24 runs in it, and all of its runs, in a process on one core."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import Settings, Table, say, slope

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

_FIND = """
import sys
from pathlib import Path
from thawlab.compare.select.grouping import group
from thawlab.compare.select.request import parse
from thawlab.tracking.select_runs import select_runs
from thawlab.tracking.store import open_store
request = parse(sys.argv[1:])
store = open_store(None, Path(request.root))
found = group(select_runs(store, sweep=request.sweep, experiment=request.experiment).records)
assert found.configurations
"""
_COMPARE = "import sys; from thawlab.cli.main import main; main(['compare', *sys.argv[1:]])"
# A small process in between: one that is started from a large one counts that one's memory as its own.
_WATCH = """
import json, os, sys, time
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
begun, quiet = time.perf_counter(), [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
child = os.posix_spawn(sys.executable, [sys.executable, "-c", *sys.argv[1:]], os.environ, file_actions=quiet)
_, status, used = os.wait4(child, 0)
result = {"seconds": time.perf_counter() - begun, "work": used.ru_utime + used.ru_stime}
print(json.dumps({**result, "mb": used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)}))
sys.exit(os.waitstatus_to_exitcode(status))
"""
_SWEEP, _SEEDS, _CLASSES, _SAMPLES = 24, 3, 10, 921
_FILES = 24  # predictions that are written; the runs share them


def measure(settings: Settings) -> dict[str, Any]:
    """Seconds, seconds of work and MB of a process that finds and sorts the runs, and of the whole command."""
    sizes = settings.chosen((100, 1000, 10_000), (100, 1000), (30,))
    rows = []
    for size in sizes:
        root = _store(settings.folder("store") / str(size), size)  # MLflow remembers databases by path
        for what in ("sweep=latest", "experiment=bench"):
            runs = _SWEEP if what.startswith("sweep") else size
            row: dict[str, Any] = {"stored": size, "runs": runs, "what": what}
            for name, program in (("find", _FIND), ("compare", _COMPARE)):
                row[name] = _run(program, [what, f"root={root}", *_reported(name, root)])
                say(f"{size:,} runs, {what}, {name}: " + "  ".join(f"{key} {row[name][key]:.1f}" for key in row[name]))
            rows.append(row)
        shutil.rmtree(root)
    whole = [row for row in rows if row["what"].startswith("experiment")]
    powers = {
        name: slope([row["stored"] for row in whole], [row[name]["work"] for row in whole]) if len(whole) > 1 else 0.0
        for name in ("find", "compare")
    }
    return {"rows": rows, "powers": powers}


def _reported(name: str, root: Path) -> list[str]:
    return [f"out={root / 'report'}", "log=false"] if name == "compare" else []


def _store(root: Path, size: int) -> Path:
    """A store with so many runs, as large as real ones: learning rates at random, three seeds of each."""
    from compare.synthetic import Made, add, add_predictions, add_sweep, fresh_store, predictions_path

    shutil.rmtree(root, ignore_errors=True)
    store = fresh_store(root)
    extra = {f"section.setting_{number}": number for number in range(45)}
    metrics = {f"lr/blocks.{number}": 0.1 for number in range(25)}
    tags = {f"note_{number}": "x" * 40 for number in range(9)}
    runs = []
    for number in range(size - _SWEEP):
        own = {"optimizer.lr": 0.1 * 0.999 ** (number // _SEEDS), "seed": number % _SEEDS}
        accuracy = 0.8 + 0.1 * (number % 97) / 97
        typed = "\n".join(f"{key}={value}" for key, value in own.items())
        history = {"val/acc": [accuracy - 0.1, accuracy]}
        runs.append(
            Made({**extra, **own}, {**metrics, "test/acc": accuracy}, {**tags, "overrides": typed}, history=history)
        )
    ids = add(store, runs, "bench")
    swept = [{**extra, "freeze": depth, "seed": seed} for depth in range(8) for seed in range(_SEEDS)]
    ids += add_sweep(store, swept, "bench", metrics=metrics)[1:]
    classes, samples = [f"class {number}" for number in range(_CLASSES)], [f"test/{n:05d}.jpg" for n in range(_SAMPLES)]
    kept = [add_predictions(store, run, 0.7 + 0.01 * n, samples, classes, n) for n, run in enumerate(ids[:_FILES])]
    for number, run in enumerate(ids[_FILES:]):
        path = predictions_path(store, run)
        path.parent.mkdir(parents=True)
        os.link(kept[number % _FILES], path)
    return root


def _run(program: str, arguments: Sequence[str]) -> dict[str, float]:
    """Wall time, processor time and peak memory of a process that may use one core."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": ""}
    command = [sys.executable, "-c", _WATCH, program, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if result.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {result.stderr.strip()[-500:]}")
    return json.loads(result.stdout)


def table(results: Mapping[str, Any]) -> Table:
    """A row for each store and selection."""
    rows: list[Sequence[str]] = []
    for row in results["rows"]:
        cells = [
            f"{row[name]['seconds']:.1f} ({row[name]['work']:.1f})" if key == "seconds" else f"{row[name]['mb']:.0f}"
            for name in ("find", "compare")
            for key in ("seconds", "mb")
        ]
        rows.append((f"{row['runs']:,} of {row['stored']:,} runs", *cells))
    powers = results["powers"]
    rows.append(("power of the runs, all of them", f"{powers['find']:.2f}", "", f"{powers['compare']:.2f}", ""))
    columns = ("", "found and sorted, s (of work)", "MB", "whole command, s (of work)", "MB")
    return Table("Comparing runs of a store that grows, on one core", columns, rows)
