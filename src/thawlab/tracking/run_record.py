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
        ended: seconds since 1970; 0 if it has not.
        alive: whether its process is there; None if that cannot be seen from this machine, or was not asked.
        config: the text of `config/config.yaml`; None if it was not read, or the run ended before it was kept.
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
    ended: float = 0.0
    alive: bool | None = None
    config: str | None = None

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
            ended=(info.end_time or 0) / 1000,
        )

    @property
    def seconds(self) -> float:
        """From its start to its end; 0 if it has none."""
        return self.ended - self.started if self.ended and self.started else 0.0

    @property
    def parent_id(self) -> str | None:
        """The run that it is shown under."""
        return self.tags.get(PARENT_TAG)

    @property
    def is_compared(self) -> bool:
        """Whether the comparison of a sweep is kept with it: this is among the last that one records."""
        return "summary.conclusion" in self.tags

    @property
    def is_sweep(self) -> bool:
        """Whether this is what the runs of a sweep are shown under, not one of them."""
        return "sweep_dir" in self.tags or ("sweep_id" in self.tags and PARENT_TAG not in self.tags)
