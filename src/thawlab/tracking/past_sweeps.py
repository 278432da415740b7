"""Sweeps that were started earlier, and what came of their jobs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mlflow.entities import Run as MlflowRun

from thawlab.tracking.mlflow_names import leaving
from thawlab.tracking.processes import PROCESS_TAG, is_alive
from thawlab.tracking.store import Store, impatient, plain_messages

JOBS_TAG = "sweep_jobs_hash"
"""The tag that agrees for sweeps of the same jobs in the same order."""


@dataclass(frozen=True)
class PastJob:
    """A run below a sweep's parent run.

    Attributes:
        run_id: MLflow's id.
        status: RUNNING, FINISHED, FAILED or KILLED.
        alive: whether its process is there; None if that cannot be seen from this machine.
        tags: all of them.
        metrics: the last value of each.
        seconds: from its start to its end; 0 if it has none.
    """

    run_id: str
    status: str
    alive: bool | None
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    seconds: float


@dataclass(frozen=True)
class PastSweep:
    """A sweep's parent run; the fields are those of `PastJob`."""

    run_id: str
    status: str
    alive: bool | None
    tags: Mapping[str, str]

    @property
    def compared(self) -> bool:
        """Whether its comparison is kept with it: this is among the last that one records."""
        return "summary.conclusion" in self.tags


def past_sweeps(store: Store, experiment_name: str) -> list[PastSweep]:
    """The sweeps of an experiment, the latest first.

    Raises:
        ValueError: the store cannot be used.
    """
    with plain_messages(store), impatient():
        found = store.client().get_experiment_by_name(leaving(experiment_name))  # as it was recorded
        if found is None:
            return []
        runs = _runs(store, found.experiment_id, "tags.sweep_dir LIKE '%'", "DESC")
        return [PastSweep(each.info.run_id, each.info.status, _alive(each), dict(each.data.tags)) for each in runs]


def past_jobs(store: Store, sweep_id: str) -> list[PastJob]:
    """The runs right below a sweep's parent run, the oldest first; without deleted ones.

    Raises:
        ValueError: the store cannot be used.
    """
    with plain_messages(store), impatient():
        experiment_id = store.client().get_run(sweep_id).info.experiment_id
        return [_job(run) for run in _runs(store, experiment_id, f"tags.mlflow.parentRunId = '{sweep_id}'", "ASC")]


def _job(run: MlflowRun) -> PastJob:
    info = run.info
    seconds = (info.end_time - info.start_time) / 1000 if info.end_time and info.start_time else 0.0
    return PastJob(info.run_id, info.status, _alive(run), dict(run.data.tags), dict(run.data.metrics), seconds)


def _alive(run: MlflowRun) -> bool | None:
    return is_alive(run.data.tags.get(PROCESS_TAG))


def _runs(store: Store, experiment_id: str, filter: str, order: str) -> Iterator[MlflowRun]:
    client, token = store.client(), None
    while True:
        page = client.search_runs(
            [experiment_id], filter, order_by=[f"attributes.start_time {order}"], page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return
