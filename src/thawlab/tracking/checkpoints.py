"""The weights that an earlier run kept, to start from."""

from pathlib import Path

from mlflow.artifacts import download_artifacts

from thawlab.tracking.history import find_run
from thawlab.tracking.store import Store, impatient, plain_messages

_KEPT = "checkpoints/best.ckpt"


def checkpoint_of(store: Store, run_id: str, key: str) -> Path:
    """The file of a run's best weights: in a local store as it lies there, from a server in a temporary folder.

    Args:
        store: where the run is.
        run_id: of the run.
        key: the setting that named the run.

    Raises:
        ValueError: there is no such run, or it kept no weights.
    """
    run = find_run(store, run_id, key)
    with plain_messages(store), impatient():
        kept = [found.path for found in store.client().list_artifacts(run_id, _KEPT.partition("/")[0])]
        if _KEPT not in kept:
            status = run.info.status
            why = "tracking.checkpoint was false" if status == "FINISHED" else f"it is {status}, not FINISHED"
            raise ValueError(f"{key}=run:{run_id}: this run kept no weights, since {why}; use another run, or a file")
        return Path(download_artifacts(run_id=run_id, artifact_path=_KEPT, tracking_uri=store.uri))
