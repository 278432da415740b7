from pathlib import Path

import pytest

from compare.synthetic import fresh_store
from thawlab.tracking.store import Store, experiment


@pytest.fixture(scope="package")
def tables(tmp_path_factory) -> Path:
    """A database with MLflow's tables and nothing else."""
    store = fresh_store(tmp_path_factory.mktemp("tables"))
    experiment(store, "unused")
    assert store.database is not None
    return store.database


@pytest.fixture
def store(tmp_path, tables) -> Store:
    return fresh_store(tmp_path / "mlruns", tables)
