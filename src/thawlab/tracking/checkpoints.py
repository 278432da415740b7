"""The weights that an earlier run kept, to start from."""

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from thawlab.tracking.artifacts import fetch
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
    run = find_run(store, run_id, key, prefix="run:")
    with plain_messages(store), impatient():
        location = urlsplit(run.info.artifact_uri)
        local = Path(unquote(location.path)) / _KEPT
        if location.scheme in ("", "file") and local.is_file():  # MLflow would copy it
            return local
        found = fetch(store, run_id, _KEPT)
        if found is None:
            raise ValueError(f"{key}=run:{run_id}: {_why_none(run)}; use another run, or a file of weights")
        return found


def _why_none(run: Any) -> str:
    if run.info.status != "FINISHED":
        return f"this run is {run.info.status}, and only one that FINISHED keeps its weights"
    if run.data.params.get("tracking.checkpoint", "").lower() == "false":
        return "this run kept no weights, since tracking.checkpoint was false"
    return f"the weights of this run are not in {run.info.artifact_uri} any more"
