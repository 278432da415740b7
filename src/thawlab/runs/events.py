"""What training tells, shown in the terminal and sent to MLflow."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite, nan

from thawlab import console
from thawlab.tracking.metric_buffer import EpochLog
from thawlab.tracking.run import Run
from thawlab.training.events import Advance, Events

_SENT_EVERY = 10.0  # seconds, where several runs are trained at once


class RunEvents(Events):
    """The events of runs that are trained together.

    Args:
        labels: what the runs are called beside each other.

    Attributes:
        diverged: of each run the first epoch with a loss that is not finite, None if there is none.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self.diverged: list[int | None] = [None] * len(labels)
        self._log = EpochLog([], 0)

    def send_to(self, runs: Sequence[Run]) -> None:
        """Send the metrics of each epoch to these runs, in the order of the labels."""
        self._log = EpochLog(runs, _SENT_EVERY if len(runs) > 1 else 0)

    def flush(self) -> None:
        """Send what is waiting."""
        self._log.flush()

    def note(self, text: str) -> None:
        console.show_note(text)

    def phase_begins(self, number: int, phases: int, name: str) -> None:
        console.show_phase(number, phases, name)

    def epoch_ends(self, epoch: int, epochs: int, networks: Sequence[Mapping[str, float]], seconds: float) -> None:
        if len(networks) == 1:
            console.show_epoch(epoch, epochs, networks[0], seconds)
        else:
            self._show_many(epoch, epochs, networks, seconds)
        self._log.add(epoch, networks)

    def cache_is_used(
        self, what: str, stage: str, images: Mapping[str, tuple[int, int]], done: Mapping[str, float]
    ) -> None:
        console.show_cache(what, stage, images, done)

    @contextmanager
    def progress(self, what: str, total: float | None) -> Iterator[Advance]:
        with console.progress(what, total) as advance:
            yield advance

    def _show_many(self, epoch: int, epochs: int, rows: Sequence[Mapping[str, float]], seconds: float) -> None:
        for place, row in enumerate(rows):
            if self.diverged[place] is None and not (isfinite(row["train/loss"]) and isfinite(row["val/loss"])):
                self.diverged[place] = epoch
        accuracies = [row["val/acc"] for row in rows]
        losses = [row["train/loss"] for row in rows if isfinite(row["train/loss"])]
        best = max(accuracies)
        metrics = {"best": best, "median": statistics.median(accuracies), "seconds": seconds}
        metrics |= {"train/loss": statistics.median(losses) if losses else nan}
        metrics |= {"diverged": sum(each is not None for each in self.diverged)}
        tied = accuracies.count(best) - 1
        label = self.labels[accuracies.index(best)].replace("optimizer.", "") + (f" and {tied} more" if tied else "")
        console.show_heads_epoch(epoch, epochs, metrics, label)
