"""Where runs are kept: a local SQLite file with its artifacts beside it, or a tracking server."""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from filelock import FileLock, Timeout
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from thawlab.system.redaction import redacted
from thawlab.tracking import addresses
from thawlab.tracking.store_creation import make_database
from thawlab.tracking.ui_views import view_tags

# Opens the experiment on its runs table and charts; without it MLflow's page guesses, or offers its GenAI view.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development", **view_tags()}
_LOCK_SECONDS = 120  # creating the tables takes about 2 s, and a sweep's jobs wait for each other


@dataclass(frozen=True)
class Store:
    """An MLflow tracking store."""

    uri: str
    artifacts: str | None
    """Where a new experiment keeps its files, as a URI; None leaves it to the server."""

    def client(self) -> MlflowClient:
        return MlflowClient(self.uri, registry_uri=self.uri)

    @property
    def database(self) -> Path | None:
        """The SQLite file, if the store is one."""
        return addresses.sqlite_path(self.uri) if self.uri.startswith("sqlite") else None

    @property
    def is_server(self) -> bool:
        """Whether it is a tracking server, which keeps the files, too."""
        return (urlsplit(self.uri).scheme or self.uri) in addresses.SERVERS

    @property
    def ui_command(self) -> str:
        """What to type, or to open, to see the runs."""
        if self.uri.startswith(("http://", "https://")):
            return redacted(self.uri)
        if self.database and self.database.name == "mlflow.db":
            root = self.database.parent
            here = root == Path.cwd() / "mlruns"
            return "thawlab ui" if here else f"thawlab ui --root '{root}'"
        return f"thawlab ui --uri '{redacted(self.uri)}'"


def open_store(uri: str | None, root: Path) -> Store:
    """The store at `uri`, else at MLFLOW_TRACKING_URI, else the SQLite file `root/mlflow.db`.

    A SQLite store keeps its artifacts in the folder `artifacts` beside the file, another database in `root/artifacts`.
    Nothing is created or contacted yet.

    Raises:
        ValueError: the address is mistyped, or of a plain folder, which MLflow no longer writes to.
    """
    root = root.absolute()
    key, value = addresses.given(uri)
    if value is None:
        return _sqlite_store(root / "mlflow.db", f"mlruns folder={root}")
    if wrong := addresses.mistake(key, value):
        raise ValueError(wrong)
    if value.startswith("sqlite"):
        return _sqlite_store(addresses.sqlite_path(value), f"{key}={value}")
    scheme = urlsplit(value).scheme or value
    return Store(value, None if scheme in addresses.SERVERS else (root / "artifacts").as_uri())


def _sqlite_store(path: Path, origin: str) -> Store:
    uri = addresses.sqlite_address(path)
    if make_url(uri).database != str(path):  # SQLAlchemy before 2.1 takes quoted signs as they are
        raise ValueError(
            f"{origin}: a database whose path has '?' or '%' in it needs SQLAlchemy 2.1; "
            "use tracking.uri=sqlite:////another/folder/mlflow.db"
        )
    return Store(uri, (path.parent / "artifacts").as_uri())


def experiment(store: Store, name: str) -> str:
    """The id of the experiment called `name`, which is created where it does not exist, tables and folders included.

    Any number of processes may call this on a fresh store at once: the first one creates, the others wait.

    Raises:
        ValueError: if the store cannot be reached or opened, the experiment was deleted, or its files were moved.
    """
    with plain_messages(store), _alone(store), impatient():
        client = store.client()
        found = client.get_experiment_by_name(name)
        if found is None:
            return _create(client, store, name)
        _check_usable(found, store)
        return found.experiment_id


def _create(client: MlflowClient, store: Store, name: str) -> str:
    try:
        return client.create_experiment(name, artifact_location=store.artifacts, tags=_EXPERIMENT_TAGS)
    except MlflowException as error:
        # On a server the lock is of no use: another machine may have been first.
        found = client.get_experiment_by_name(name) if error.error_code == "RESOURCE_ALREADY_EXISTS" else None
        if found is None:
            raise
        return found.experiment_id


def _check_usable(found: Experiment, store: Store) -> None:
    if found.lifecycle_stage == LifecycleStage.DELETED:
        raise ValueError(
            f"experiment_name={found.name}: this experiment was deleted; use another name, or bring it back with: "
            f"MLFLOW_TRACKING_URI='{store.uri}' mlflow experiments restore --experiment-id {found.experiment_id}"
        )
    if store.artifacts is None or not found.artifact_location.startswith("file:"):
        return
    folder = Path(unquote(urlsplit(found.artifact_location).path))
    if found.artifact_location == store.artifacts:
        folder.mkdir(parents=True, exist_ok=True)
    elif not folder.exists():  # MLflow would make the old folder anew and scatter the files
        raise ValueError(
            f"experiment_name={found.name}: its files are kept in {folder}, which is gone (was the store moved?); "
            "move the store back, or use another experiment_name"
        )


@contextmanager
def _alone(store: Store) -> Iterator[None]:
    """Hold the store's lock file, so that tables and experiments are made by one process at a time."""
    path = store.database
    if path is None:
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=_LOCK_SECONDS):
            make_database(path)  # finds out, too, whether the file can be used: MLflow would try for minutes
            yield
    except Timeout as error:
        raise ValueError(
            f"tracking.uri={store.uri}: another process has held {path}.lock for {_LOCK_SECONDS} s; "
            "end that process, then try again"
        ) from error
    except (OSError, sqlite3.Error) as error:
        raise ValueError(
            f"tracking.uri={store.uri}: this file cannot be used as a tracking store ({error}); "
            "use tracking.uri=sqlite:///path/to/mlflow.db in a folder you can write to"
        ) from error


@contextmanager
def impatient() -> Iterator[None]:
    """Let MLflow give up on a silent server after seconds, where its own retries take minutes."""
    wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
    added = {key: value for key, value in wanted.items() if key not in os.environ}
    os.environ.update(added)
    retries = logging.getLogger("urllib3.connectionpool")
    level = retries.level
    retries.setLevel(logging.ERROR)  # the outcome is told; each try need not be
    try:
        yield
    finally:
        retries.setLevel(level)
        for key in added:
            os.environ.pop(key, None)


@contextmanager
def plain_messages(store: Store) -> Iterator[None]:
    """Turn what MLflow says into one message with a way out."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, ImportError) as error:  # an ImportError: the database's driver
        reason = str(error).strip().splitlines()[0][:300]
        if "Max retries exceeded" in reason:
            reason = "nothing answers"
        if store.uri.startswith(("http://", "https://")):
            raise ValueError(
                f"tracking.uri={store.uri}: no usable MLflow server there ({reason}); start it, correct tracking.uri "
                "or MLFLOW_TRACKING_URI, or leave both empty for the local store"
            ) from error
        raise ValueError(f"tracking.uri={store.uri}: MLflow cannot use this store: {reason}") from error
