"""One of the runs of a training, from before it is opened until it is closed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from thawlab.config.job import Job
from thawlab.tracking.run import Run
from thawlab.training.best_epoch import Best

StageTable = Mapping[str, Any]  # a phase as it is shown and kept in `stages.json`


@dataclass(eq=False)
class Member:
    """One of the runs.

    Attributes:
        number: from 1.
        label: what it is called beside the others: the settings in which they differ.
        job: what trains it alone.
        plan: its phases, as they are shown and kept.
        tracker: its run in MLflow; None in the other processes of a distributed run.
        best: its best epoch, once it is trained.
        audited: frozen tensors that were found unchanged.
        metrics: at the end, by their MLflow names.
    """

    number: int
    label: str
    job: Job
    plan: Sequence[StageTable]
    tracker: Run | None = None
    best: Best | None = None
    audited: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Of the run in MLflow."""
        return self.tracker.id if self.tracker else ""

    @property
    def status(self) -> str:
        """Of the run in MLflow."""
        return (self.tracker.status if self.tracker else None) or "RUNNING"

    @property
    def failed(self) -> bool:
        """Whether this process knows that it has no result."""
        return self.tracker is not None and self.status != "FINISHED"
