"""Keeping a comparison with the sweep that it is of."""

from collections.abc import Mapping
from pathlib import Path

from thawlab.tracking.runs import Run
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
        parent = Run(store, parent_id, store.client().get_run(parent_id).info.experiment_id)
        for path in sorted(folder.iterdir()):
            parent.log_artifact(path, f"{FOLDER}/{path.name}" if path.is_dir() else FOLDER)
        parent.log_metrics(metrics)
        parent.set_tags(tags)
        set_note(store, parent_id, markdown)
