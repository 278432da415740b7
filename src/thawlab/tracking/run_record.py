"""A run as plain values, whichever way it was read."""

from collections.abc import Mapping
from dataclasses import dataclass

from mlflow.entities import Run as MlflowRun

PARENT_TAG = "mlflow.parentRunId"


@dataclass(frozen=True)
class RunRecord:
    """A run as the store holds it.

    Attributes:
        run_id: MLflow's id.
        name: its name there.
        experiment_id: of the experiment that it belongs to.
        status: FINISHED, FAILED, KILLED, RUNNING or SCHEDULED.
        started: seconds since 1970.
        params: the resolved configuration, flattened.
        metrics: the last value of each.
        tags: all of them, MLflow's own included.
        artifact_uri: where its artifacts are.
    """

    run_id: str
    name: str
    experiment_id: str
    status: str
    started: float
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    artifact_uri: str

    @staticmethod
    def of(run: MlflowRun) -> "RunRecord":
        """From MLflow's own record."""
        info, data = run.info, run.data
        return RunRecord(
            run_id=info.run_id,
            name=info.run_name or "",
            experiment_id=str(info.experiment_id),
            status=info.status,
            started=(info.start_time or 0) / 1000,
            params=dict(data.params),
            metrics=dict(data.metrics),
            tags=dict(data.tags),
            artifact_uri=info.artifact_uri or "",
        )

    @property
    def is_sweep(self) -> bool:
        """Whether this is what the runs of a sweep are shown under, not one of them."""
        return "sweep_dir" in self.tags or ("sweep_id" in self.tags and PARENT_TAG not in self.tags)
