"""Runs in a store as a training would have left them, written in bulk by SQL: thousands of them in seconds."""

import json
import shutil
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from thawlab.tracking.prediction_files import write_predictions
from thawlab.tracking.store import Store, experiment, open_store

PARAMS = json.loads((Path(__file__).parent / "params.json").read_text(encoding="utf-8"))
CLASSES = ("circle", "square", "star")
_COSTS = {"cost/fit_seconds": 74.7, "cost/trainable_params": 3129834.0, "cost/peak_memory_mb": 1116.4}


@dataclass
class Made:
    """A run to be written; what is not given is as in a real run."""

    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)
    name: str = ""
    status: str = "FINISHED"
    parent: str | None = None
    deleted: bool = False
    bare: bool = False  # nothing but what is given, as the parent of a sweep
    run_id: str = field(default_factory=lambda: uuid4().hex)

    def all_params(self) -> dict[str, str]:
        return {**({} if self.bare else PARAMS), **{key: str(value) for key, value in self.params.items()}}

    def all_metrics(self) -> dict[str, float]:
        usual = {} if self.bare else {"test/acc": 0.8, "best/val_acc": 0.79, **_COSTS}
        last = {name: values[-1] for name, values in self.history.items()}
        return {**usual, **last, **self.metrics}

    def all_tags(self) -> dict[str, str]:
        told = " ".join(f"{key}={value}" for key, value in self.all_params().items() if not key.startswith("tracking"))
        usual = {} if self.bare else {"config_hash": f"{hash(told) & 0xFFFFFFFFFFFF:012x}", "dataset_digest": "d" * 32}
        parent = {"mlflow.parentRunId": self.parent} if self.parent else {}
        return {**usual, **parent, "mlflow.runName": self.name or self.run_id[:6], **self.tags}


def fresh_store(folder: Path, tables: Path | None = None) -> Store:
    """An empty store; `tables` is an empty database to copy, since making one takes seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    store = open_store(f"sqlite:///{folder.absolute()}/mlflow.db", folder)
    if tables is not None:
        shutil.copy(tables, folder / "mlflow.db")
    return store


def add(store: Store, runs: Iterable[Made], name: str = "synthetic") -> list[str]:
    """Write the runs, each a second after the one before it; returns their ids."""
    experiment_id, runs = experiment(store, name), list(runs)
    artifacts = Path(str(store.artifacts).removeprefix("file://"))
    assert store.database is not None
    with closing(sqlite3.connect(store.database)) as connection, connection:
        for setting in ("synchronous = OFF", "journal_mode = MEMORY", "cache_size = -200000"):
            connection.execute(f"PRAGMA {setting}")
        (before,) = connection.execute("SELECT COUNT(*) FROM runs").fetchone()
        begun = int(time.time() * 1000) - 10**9 + 1000 * before
        connection.executemany(
            "INSERT INTO runs (run_uuid, name, source_type, status, start_time, end_time, lifecycle_stage,"
            " artifact_uri, experiment_id, user_id) VALUES (?, ?, 'LOCAL', ?, ?, ?, ?, ?, ?, 'someone')",
            [
                (
                    *(
                        run.run_id,
                        run.name or run.run_id[:6],
                        run.status,
                        begun + 1000 * place,
                        begun + 1000 * place + 900,
                    ),
                    *("deleted" if run.deleted else "active", (artifacts / run.run_id / "artifacts").as_uri()),
                    int(experiment_id),
                )
                for place, run in enumerate(runs)
            ],
        )
        for table, read in (("params", Made.all_params), ("tags", Made.all_tags)):
            rows = ((key, value, run.run_id) for run in runs for key, value in read(run).items())
            connection.executemany(f"INSERT INTO {table} (key, value, run_uuid) VALUES (?, ?, ?)", rows)
        latest = (_metric(name, value, 0, run) for run in runs for name, value in run.all_metrics().items())
        into = "(key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, ?, ?)"
        connection.executemany(f"INSERT INTO latest_metrics {into}", latest)
        connection.executemany(f"INSERT INTO metrics {into}", (row for run in runs for row in _history(run)))
    return [run.run_id for run in runs]


def _history(run: Made) -> Iterable[tuple[Any, ...]]:
    for name, value in run.all_metrics().items():
        for step, each in enumerate(run.history.get(name, [value])):
            yield _metric(name, each, step, run)


def _metric(name: str, value: float, step: int, run: Made) -> tuple[Any, ...]:
    missing = value != value
    return name, 0.0 if missing else value, 1_700_000_000_000 + step, step, missing, run.run_id


def add_sweep(store: Store, settings: Sequence[Mapping[str, Any]], name: str = "synthetic", **about: Any) -> list[str]:
    """A parent run and a run below it for each of the settings; returns the ids, the parent's first."""
    sweep = about.pop("sweep_id", f"sweep_{uuid4().hex[:8]}")
    parent = Made(tags={"sweep_id": sweep}, name=f"sweep {sweep}", bare=True)
    children = [Made(params=each, tags={"sweep_id": sweep}, parent=parent.run_id, **about) for each in settings]
    return add(store, [parent, *children], name)


def add_predictions(
    store: Store,
    run_id: str,
    accuracy: float = 0.8,
    ids: Sequence[str] | None = None,
    classes: Sequence[str] = CLASSES,
    seed: int = 0,
) -> Path:
    """Keep predictions with the run, about so many of them right; the labels depend on the ids alone."""
    ids = [f"test/{number:04d}" for number in range(60)] if ids is None else ids
    labels = np.array([sum(map(ord, each)) % len(classes) for each in ids])
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(ids), len(classes)))
    right = rng.random(len(ids)) < accuracy
    logits[np.arange(len(ids)), np.where(right, labels, (labels + 1) % len(classes))] += 5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    path = predictions_path(store, run_id)
    write_predictions(path, ids, [f"/images/{each}.png" for each in ids], labels, probabilities, classes)
    return path


def predictions_path(store: Store, run_id: str) -> Path:
    """Where the predictions of a run lie."""
    return Path(str(store.artifacts).removeprefix("file://")) / run_id / "artifacts" / "predictions" / "test.parquet"
