"""Reading back what earlier runs left: to resume one, and to redraw its curves."""

from dataclasses import replace
from typing import Any

from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException

from thawlab.tracking.artifacts import fetch
from thawlab.tracking.mlflow_names import leaving, shorten
from thawlab.tracking.processes import PROCESS_TAG, is_alive
from thawlab.tracking.run_record import RunRecord
from thawlab.tracking.store import Store, impatient, plain_messages
from thawlab.tracking.store_creation import is_made

CONFIG_FILE = "config/config.yaml"
_EPOCH_METRICS = ("train/", "val/", "lr/")


def find_run(store: Store, run_id: str, key: str = "resume", prefix: str = "") -> Any:
    """MLflow's own record of a run; `key` is the setting that named it, with `prefix` before its id.

    Raises:
        ValueError: if the store has no such run, with the latest that it has, or cannot be reached.
    """
    with plain_messages(store), impatient():
        client = store.client()
        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise ValueError(
                f"{key}={prefix}{run_id}: there is no such run in {store.uri}; {_latest(store)}"
            ) from error
        if run.info.lifecycle_stage == LifecycleStage.DELETED:
            raise ValueError(f"{key}={prefix}{run_id}: this run was deleted; {_latest(store)}")
        return run


def _latest(store: Store) -> str:
    client = store.client()
    experiments = [found.experiment_id for found in client.search_experiments()]
    runs = client.search_runs(experiments, order_by=["attributes.start_time DESC"], max_results=5)
    listed = [f"{run.info.run_id} ({shorten(str(run.info.run_name), 40)}, {run.info.status})" for run in runs]
    return "the latest are " + ", ".join(listed) if listed else "the store has no runs"


def read_run(store: Store, run_id: str, key: str = "resume") -> RunRecord:
    """All that is needed to continue a run.

    Raises:
        ValueError: if the store has no such run.
    """
    run = find_run(store, run_id, key)
    return replace(RunRecord.of(run), config=read_text(store, run_id, CONFIG_FILE))


def read_text(store: Store, run_id: str, path: str) -> str | None:
    """A text that a run kept; None if it has no such file. What is no text in it is replaced."""
    local = fetch(store, run_id, path)
    return None if local is None else local.read_text(encoding="utf-8", errors="replace")


def find_interrupted(store: Store, experiment_name: str, config_hash: str) -> str | None:
    """The latest unfinished run with this configuration that has an output folder and is not at work any more.

    A run that is RUNNING on another machine may be at work: it is only resumed by its id.
    """
    if store.database is not None and not is_made(store.database):  # MLflow would make one
        return None
    with plain_messages(store), impatient():
        client = store.client()
        experiment = client.get_experiment_by_name(leaving(experiment_name))  # as it was recorded
        if experiment is None:
            return None
        runs = client.search_runs(
            [experiment.experiment_id],
            f"tags.config_hash = '{config_hash}' and attributes.status != 'FINISHED'",
            order_by=["attributes.start_time DESC"],
        )
    for run in runs:
        ended = run.info.status in ("KILLED", "FAILED") or is_alive(run.data.tags.get(PROCESS_TAG)) is False
        if ended and "output_dir" in run.data.tags:
            return run.info.run_id
    return None


def epoch_history(store: Store, run_id: str) -> list[dict[str, float]]:
    """The metrics of each epoch, `{"epoch": 0, "train/loss": …}`, in order.

    An epoch that was logged twice, because the run was killed after it and resumed before it, counts as it was last.
    """
    client = store.client()
    names = [name for name in client.get_run(run_id).data.metrics if name.startswith(_EPOCH_METRICS)]
    rows: dict[int, dict[str, float]] = {}
    for name in names:
        for metric in sorted(client.get_metric_history(run_id, name), key=lambda entry: entry.timestamp):
            rows.setdefault(metric.step, {"epoch": metric.step})[name] = metric.value
    return [rows[step] for step in sorted(rows)]
