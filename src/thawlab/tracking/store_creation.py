"""A SQLite store that is whole or not there: its tables are made beside its place, and it is renamed.

MLflow makes them in place, in some fifty steps; what is stopped between two of them is of no use to it any more.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from mlflow.store.db.base_sql_model import Base
from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase

from thawlab.tracking.addresses import sqlite_address

_BESIDE = ("-journal", "-wal", "-shm")  # what SQLite keeps of a database that was not closed
_SECONDS = 20  # that another process may hold the file


def is_made(path: Path) -> bool:
    """Whether there is a database, and no store that was left while it was made.

    Raises:
        sqlite3.Error: the file is no database.
    """
    if not path.is_file() or not path.stat().st_size:
        return False
    with closing(sqlite3.connect(path, timeout=_SECONDS)) as connection:
        return not _was_left(connection)


def make_database(path: Path) -> None:
    """Make the store's tables where they are not; one process at a time may call this.

    A store that never came to hold an experiment was left while it was made, and gives way. A database of anybody
    else's is left to MLflow as it is.

    Raises:
        sqlite3.Error: the file is no database, or is held by another process.
        SQLAlchemyError: the tables cannot be made: no room on the disk.
    """
    if is_made(path):
        return
    if path.is_file():
        with closing(sqlite3.connect(path, timeout=_SECONDS)) as connection:
            connection.execute("BEGIN IMMEDIATE")  # waits for a process that does not ask for our lock
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] and not _was_left(connection):
                return
    for left in path.parent.glob(f"{path.name}.new*"):
        left.unlink(missing_ok=True)
    beside = path.with_name(f"{path.name}.new")
    engine = create_sqlalchemy_engine(sqlite_address(beside))
    try:
        _initialize_tables(engine)
        engine.dispose()
        for ending in _BESIDE:  # else they would be taken for the new one's
            path.with_name(path.name + ending).unlink(missing_ok=True)
        beside.replace(path)
    finally:
        engine.dispose()
        for left in path.parent.glob(f"{path.name}.new*"):
            left.unlink(missing_ok=True)


def _was_left(connection: sqlite3.Connection) -> bool:
    found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    mlflows = {*Base.metadata.tables, *InitialBase.metadata.tables, "alembic_version"}
    if any(name not in mlflows and not name.startswith(("sqlite_", "_alembic_tmp_")) for name in found):
        return False
    return not any(
        connection.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone()
        for name in ("experiments", "runs")
        if name in found
    )
