import shutil

import pytest

from thawlab.tracking.store import Store, experiment, open_store


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """A database with MLflow's tables and nothing else: making one takes two seconds, copying it none."""
    root = tmp_path_factory.mktemp("empty")
    store = open_store(f"sqlite:///{root}/mlflow.db", root)
    experiment(store, "unused")
    return store.database


@pytest.fixture
def store(tmp_path, empty_database) -> Store:
    root = tmp_path / "mlruns"
    root.mkdir()
    shutil.copy(empty_database, root / "mlflow.db")
    return open_store(f"sqlite:///{root}/mlflow.db", root)
