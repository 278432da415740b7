"""What the jobs of a sweep cost beside training: `train.py -m` with `sweep.warm=true` and `sweep.warm=false` in turn.

Whole commands, from their start to the end of the comparison. What is left of the wall time without the seconds that
the runs themselves count as training and as filling the cache is shared out among the jobs.
"""

import os
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import Settings, Table, say

_OWN = ("cost/fit_seconds", "cost/cache_seconds")


def measure(settings: Settings) -> dict[str, Any]:
    """Seconds of whole sweeps, warm and cold in turn, and what their runs count as their own."""
    jobs, rounds = settings.chosen(10, 5, 2), settings.chosen(3, 1, 1)
    swept = ("-m", "freeze=all", f"seed={','.join(map(str, range(jobs)))}")
    found: dict[str, list[dict[str, float]]] = {"warm": [], "cold": []}
    for number in range(rounds):
        for name in ("warm", "cold") if number % 2 == 0 else ("cold", "warm"):
            row = _sweep([*settings.arguments, *swept, f"sweep.warm={str(name == 'warm').lower()}"], settings, jobs)
            found[name].append(row)
            say(f"round {number + 1}/{rounds}, {name}: {row['seconds']:.1f} s, {row['beside']:.2f} s a job beside")
    return {"jobs": jobs, "sweeps": found}


def _sweep(arguments: Sequence[str], settings: Settings, jobs: int) -> dict[str, float]:
    folder = settings.folder("sweep")
    program = "import sys; from thawlab.cli.main import train; sys.exit(train(sys.argv[1:]))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise RuntimeError(f"the sweep ended with {done.returncode}: {done.stdout}{done.stderr}")
    own = sum(_own(folder / "mlruns" / "mlflow.db"))
    return {"seconds": seconds, "own": own, "beside": (seconds - own) / jobs}


def _own(store: Path) -> list[float]:
    """The seconds that the runs in a store count as training and as filling."""
    with sqlite3.connect(store) as database:
        places = ", ".join("?" * len(_OWN))
        rows = database.execute(f"select value from latest_metrics where key in ({places})", _OWN).fetchall()
    return [value for (value,) in rows]


def table(results: Mapping[str, Any]) -> Table:
    """A row for each way to start jobs: medians."""

    def median(name: str, key: str) -> float:
        return statistics.median(row[key] for row in results["sweeps"][name])

    rows = [
        (name, *(f"{median(name, key):,.1f}" for key in ("seconds", "own")), f"{median(name, 'beside'):.2f}")
        for name in results["sweeps"]
    ]
    columns = ("jobs are started", "whole sweep, s", "training and cache, s", "beside, s a job")
    return Table(f"A sweep of {results['jobs']} short jobs", columns, rows)
