"""Runs from the tables of a database: MLflow's search takes 5 ms of work a run, for 10,000 runs a minute."""

import math
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from mlflow.store.db.utils import create_sqlalchemy_engine
from sqlalchemy import Engine, NullPool, bindparam, column, create_engine, select, table
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql import Select

from thawlab.tracking.run_record import PARENT_TAG, RunRecord
from thawlab.tracking.store import Store, plain_messages

_CHUNK = 500  # SQLite before 3.32 takes 999 values in one statement
_USABLE: set[Store] = set()  # found so before, by this process
_DATABASES = ("sqlite:", "postgresql", "mysql", "mssql")
_RUNS = table(
    "runs",
    *map(
        column,
        ("run_uuid", "name", "experiment_id", "status", "start_time", "end_time", "artifact_uri", "lifecycle_stage"),
    ),
)
_PARAMS, _TAGS = (table(name, column("run_uuid"), column("key"), column("value")) for name in ("params", "tags"))
_LATEST = table("latest_metrics", *map(column, ("run_uuid", "key", "value", "is_nan")))
_METRICS = table("metrics", *map(column, ("run_uuid", "key", "value", "is_nan", "step", "timestamp")))


class RunTables:
    """The tables of a store that is a database; nothing is written to it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._engine = _engine(store)

    def usable(self) -> bool:
        """Whether MLflow reads the latest run that is over just as it is read here: its tables may change one day."""
        latest = (
            select(_RUNS.c.run_uuid)
            .where(_RUNS.c.lifecycle_stage == "active", _RUNS.c.status.not_in(("RUNNING", "SCHEDULED")))
            .order_by(_RUNS.c.start_time.desc())
            .limit(1)
        )
        try:
            found = self.read([row[0] for row in self._rows(latest)])
        except SQLAlchemyError:
            return False
        with plain_messages(self._store):
            client = self._store.client()
            return all(_same(each, RunRecord.of(client.get_run(each.run_id))) for each in found)

    def children(self, run_ids: Sequence[str]) -> list[str]:
        """Ids of the runs right below these, whatever became of them."""
        return self.tagged(PARENT_TAG, run_ids)

    def tagged(self, key: str, values: Sequence[str]) -> list[str]:
        """Ids of the runs whose tag has one of these values, whatever became of them."""
        query = select(_TAGS.c.run_uuid).where(_TAGS.c.key == key, _in(_TAGS.c.value))
        return [row[0] for row in self._chunked(query, values)]

    def of_experiments(self, experiment_ids: Sequence[str]) -> list[str]:
        """Ids of the runs of these experiments that were not deleted."""
        query = select(_RUNS.c.run_uuid).where(_RUNS.c.lifecycle_stage == "active", _in(_RUNS.c.experiment_id))
        return [row[0] for row in self._chunked(query, [int(each) for each in experiment_ids])]

    def read(self, run_ids: Sequence[str]) -> list[RunRecord]:
        """The runs that were not deleted, in the order in which they were started."""
        kept: dict[Any, Any] = {}  # thousands of runs share their names and most of their values
        runs = select(*[each for each in _RUNS.c if each.name != "lifecycle_stage"]).where(
            _RUNS.c.lifecycle_stage == "active", _in(_RUNS.c.run_uuid)
        )
        rows = list(self._chunked(runs, run_ids))
        found = [row[0] for row in rows]
        params, tags, metrics = (self._values(each, found, kept) for each in (_PARAMS, _TAGS, _LATEST))
        records = [
            RunRecord(
                run_id=run_id,
                name=name or tags[run_id].get("mlflow.runName", ""),
                experiment_id=str(experiment_id),
                status=status,
                started=(started or 0) / 1000,
                params=params[run_id],
                metrics=metrics[run_id],
                tags=tags[run_id],
                artifact_uri=artifact_uri or "",
                ended=(ended or 0) / 1000,
            )
            for run_id, name, experiment_id, status, started, ended, artifact_uri in rows
        ]
        return sorted(records, key=lambda each: (each.started, each.run_id))

    def histories(self, run_ids: Sequence[str], name: str) -> dict[str, dict[int, float]]:
        """What a metric was at each step; of a step that was logged twice, the later value."""
        columns = (_METRICS.c.run_uuid, _METRICS.c.step, _METRICS.c.value, _METRICS.c.is_nan)
        query = select(*columns).where(_METRICS.c.key == name, _in(_METRICS.c.run_uuid)).order_by(_METRICS.c.timestamp)
        found: dict[str, dict[int, float]] = {run_id: {} for run_id in run_ids}
        for run_id, step, value, missing in self._chunked(query, run_ids):
            found[run_id][step] = math.nan if missing else value
        return found

    def _values(self, source: Any, run_ids: Sequence[str], kept: dict[Any, Any]) -> dict[str, dict[str, Any]]:
        query = select(source.c.run_uuid, source.c.key, source.c.value)
        if source is _LATEST:
            query = query.add_columns(source.c.is_nan)
        found: dict[str, dict[str, Any]] = {run_id: {} for run_id in run_ids}
        rows, keep = self._chunked(query.where(_in(source.c.run_uuid)), run_ids), kept.setdefault
        if source is _LATEST:
            for run_id, key, value, missing in rows:
                found[run_id][keep(key, key)] = math.nan if missing else value
        else:
            for run_id, key, value in rows:
                found[run_id][keep(key, key)] = keep(value, value)
        return found

    def _chunked(self, query: Select, values: Sequence[Any]) -> Iterator[Any]:
        starts = range(0, len(values), _CHUNK)
        return chain.from_iterable(self._rows(query, values=list(values[at : at + _CHUNK])) for at in starts)

    def _rows(self, query: Select, **values: Any) -> Sequence[Any]:
        with self._engine.connect() as connection:
            # The driver's own rows: to wrap two million of them takes longer than to read them.
            cursor = connection.execute(query, values).cursor
            return cursor.fetchall() if cursor is not None else []


def run_tables(store: Store) -> RunTables | None:
    """The tables of the store; None if it is no database, or one that MLflow reads in another way."""
    if not store.uri.startswith(_DATABASES):
        return None
    tables = RunTables(store)
    if store not in _USABLE:
        if not tables.usable():
            return None
        _USABLE.add(store)
    return tables


def _in(of: Any) -> Any:
    return of.in_(bindparam("values", expanding=True))


def _engine(store: Store) -> Engine:
    path = store.database
    if path is None:
        return create_sqlalchemy_engine(store.uri)
    address = f"{path.absolute().as_uri()}?mode=ro"
    return create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(address, timeout=20, uri=True), poolclass=NullPool
    )


def _same(one: RunRecord, other: RunRecord) -> bool:
    def plain(record: RunRecord) -> tuple[Any, ...]:
        metrics = {name: None if math.isnan(value) else value for name, value in record.metrics.items()}
        about = (record.run_id, record.name, record.experiment_id, record.status, record.started, record.ended)
        return (*about, record.artifact_uri, dict(record.params), dict(record.tags), metrics)

    return plain(one) == plain(other)
