"""The metrics of runs by epoch; of many runs in few requests, since one for each epoch takes longer than training."""

import time
from collections.abc import Mapping, Sequence

from mlflow.entities import Metric

from thawlab.tracking.run import Run

_LIMIT = 1000  # MLflow's, for metrics in one request


class EpochLog:
    """Collects what runs have in each epoch and sends it now and then, so that MLflow's page follows a long training.

    Args:
        runs: each gets its own row of every epoch.
        seconds: between two times of sending; 0 sends every epoch at once.
    """

    def __init__(self, runs: Sequence[Run], seconds: float) -> None:
        self._runs = tuple(runs)
        self._seconds = seconds
        self._waiting: list[list[Metric]] = [[] for _ in runs]
        self._sent = time.monotonic()

    def add(self, epoch: int, rows: Sequence[Mapping[str, float]]) -> None:
        """Take the metrics of an epoch, one row a run."""
        for run, waiting, row in zip(self._runs, self._waiting, rows, strict=True):
            waiting.extend(run.metrics(row, epoch))
            run.note_nonfinite(row, epoch)
        if time.monotonic() - self._sent >= self._seconds:
            self.flush()

    def flush(self) -> None:
        """Send what is waiting."""
        for run, waiting in zip(self._runs, self._waiting, strict=True):
            for start in range(0, len(waiting), _LIMIT):
                run.client.log_batch(run.id, metrics=waiting[start : start + _LIMIT])
            waiting.clear()
        self._sent = time.monotonic()
