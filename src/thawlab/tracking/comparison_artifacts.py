"""Keeping a comparison with the sweep that it is of."""

from collections.abc import Mapping
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from thawlab.tracking.run import Run
from thawlab.tracking.store import Store, plain_messages
from thawlab.tracking.sweeps import set_note

FOLDER = "comparison"


def keep_comparison(
    store: Store, parent_id: str, folder: Path, metrics: Mapping[str, float], tags: Mapping[str, str], markdown: str
) -> None:
    """Log a comparison to the sweep's parent run, in the place of an earlier one.

    Args:
        store: where the sweep is.
        parent_id: its parent run.
        folder: with the report and everything beside it; they become artifacts under `comparison/`.
        metrics: named `summary/…`.
        tags: what was found, in words.
        markdown: goes into the run's description, below what that says already.

    Raises:
        ValueError: the store cannot be reached.
    """
    with plain_messages(store):
        info = store.client().get_run(parent_id).info
        parent = Run(store, parent_id, info.experiment_id)
        _remove_earlier(str(info.artifact_uri))
        for path in sorted(folder.iterdir()):
            parent.log_artifact(path, f"{FOLDER}/{path.name}" if path.is_dir() else FOLDER)
        parent.log_metrics(metrics)
        parent.set_tags(tags)
        set_note(store, parent_id, markdown)


def _remove_earlier(artifact_uri: str) -> None:
    """So that no plot of an earlier comparison stays beside those of this one."""
    try:
        repository = get_artifact_repository(artifact_uri)
        if any(each.path == FOLDER for each in repository.list_artifacts()):
            repository.delete_artifacts(FOLDER)
    except (MlflowException, NotImplementedError, OSError):  # some stores cannot delete: its files are written over
        return
