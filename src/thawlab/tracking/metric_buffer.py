"""The metrics of many runs by epoch, sent in few requests: one for each run and epoch takes longer than training."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from mlflow.entities import Metric

from thawlab.tracking.mlflow_names import clean_keys
from thawlab.tracking.run import Run

_LIMIT = 1000  # MLflow's, for metrics in one request


class EpochLog:
    """Collects what runs have in each epoch and sends it now and then, so that MLflow's page follows a long training.

    Args:
        runs: each gets its own row of every epoch.
        seconds: between two times of sending.
    """

    def __init__(self, runs: Sequence[Run], seconds: float = 10.0) -> None:
        self._runs = tuple(runs)
        self._seconds = seconds
        self._waiting: list[list[Metric]] = [[] for _ in runs]
        self._sent = time.monotonic()

    def add(self, epoch: int, rows: Sequence[Mapping[str, float]]) -> None:
        """Take the metrics of an epoch, one row a run."""
        now = int(time.time() * 1000)
        for run, waiting, row in zip(self._runs, self._waiting, rows, strict=True):
            odd = {name: value for name, value in row.items() if not math.isfinite(value)}
            if odd:  # sent at once, since the run also gets a tag that tells of it
                run.log_metrics(odd, step=epoch)
            names = clean_keys(row)
            waiting += [Metric(names[name], float(row[name]), now, epoch) for name in row if name not in odd]
        if time.monotonic() - self._sent > self._seconds:
            self.flush()

    def flush(self) -> None:
        """Send what is waiting."""
        for run, waiting in zip(self._runs, self._waiting, strict=True):
            entries = iter(waiting)
            for batch in _batches(entries):
                run.client.log_batch(run.id, metrics=batch)
            waiting.clear()
        self._sent = time.monotonic()


def _batches(metrics: Iterator[Metric]) -> Iterator[list[Metric]]:
    while batch := list(islice(metrics, _LIMIT)):
        yield batch
