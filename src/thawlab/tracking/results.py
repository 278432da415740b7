"""What runs left behind: their metrics over the epochs, their predictions, and their pages."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlsplit

from mlflow.exceptions import MlflowException

from thawlab.system.redaction import redacted
from thawlab.tracking.artifacts import fetch
from thawlab.tracking.prediction_files import PREDICTIONS
from thawlab.tracking.run_record import RunRecord
from thawlab.tracking.run_tables import run_tables
from thawlab.tracking.store import Store, impatient, plain_messages


def metric_histories(store: Store, run_ids: Sequence[str], name: str) -> dict[str, list[tuple[int, float]]]:
    """The metric at each step, for each of the runs; of a step that was logged twice, the later value.

    A server is asked once a run, a database once in all.
    """
    with plain_messages(store), impatient():
        if tables := run_tables(store):
            found = tables.histories(run_ids, name)
        else:
            client = store.client()
            found = {
                run_id: {
                    metric.step: metric.value
                    for metric in sorted(client.get_metric_history(run_id, name), key=lambda each: each.timestamp)
                }
                for run_id in run_ids
            }
    return {run_id: sorted(steps.items()) for run_id, steps in found.items()}


def prediction_file(store: Store, record: RunRecord) -> Path | None:
    """The table of `write_predictions` that the run kept, fetched if it lies elsewhere; None if there is none."""
    for folder in _local_folders(store, record):
        if (path := folder / PREDICTIONS).is_file():
            return path
    if urlsplit(record.artifact_uri).scheme in ("", "file") and not store.uri.startswith("http"):
        return None
    try:
        with impatient():
            return fetch(store, record.run_id, PREDICTIONS, Path(_downloads().name) / record.run_id)
    except (MlflowException, OSError):  # the run's files are gone, or out of reach: its metrics are still there
        return None


@cache
def _downloads() -> TemporaryDirectory[str]:
    """Is removed when the process ends."""
    return TemporaryDirectory(prefix="thawlab_")


def _local_folders(store: Store, record: RunRecord) -> list[Path]:
    folders = []
    if urlsplit(record.artifact_uri).scheme in ("", "file") and record.artifact_uri:
        folders.append(Path(unquote(urlsplit(record.artifact_uri).path)))
    if store.database is not None:  # a store that was moved or copied has its files beside it, not where they were
        folders.append(store.database.parent / "artifacts" / record.run_id / "artifacts")
    return folders


def links(store: Store, records: Sequence[RunRecord], address: str | None = None) -> dict[str, str]:
    """MLflow's page of each run, by its id.

    Args:
        store: where they are kept.
        records: the runs.
        address: of a server that shows them; without it a store that is a server, or nothing.
    """
    server = address or (store.uri if store.uri.startswith(("http://", "https://")) else None)
    if not server:
        return {}
    start = redacted(server).split("#")[0].replace("://***@", "://").rstrip("/")  # a browser asks who one is
    # Without the word, MLflow opens the page of its GenAI view.
    view = "?workflowType=machine_learning"
    return {each.run_id: f"{start}/#/experiments/{each.experiment_id}/runs/{each.run_id}{view}" for each in records}
