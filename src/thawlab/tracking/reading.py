"""Reading runs back from a tracking store."""

from collections.abc import Mapping
from dataclasses import dataclass


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
