"""What training tells of while it is at work: who shows it or keeps it listens."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

Advance = Callable[[float], object]  # by how many of the total


class Events:
    """Hears everything and says nothing; a listener overrides what it is interested in.

    In a distributed run each process tells its own listener the same.
    """

    def note(self, text: str) -> None:
        """What the user should know, as a sentence."""

    def phase_begins(self, number: int, phases: int, name: str) -> None:
        """One of several phases begins; `number` counts from 1."""

    def epoch_ends(self, epoch: int, epochs: int, networks: Sequence[Mapping[str, float]], seconds: float) -> None:
        """An epoch is over.

        Args:
            epoch: from 0 over all phases.
            epochs: in all.
            networks: the metrics of each network that is trained, by their MLflow names.
            seconds: that it took.
        """

    def cache_is_used(
        self, what: str, stage: str, images: Mapping[str, tuple[int, int]], done: Mapping[str, float]
    ) -> None:
        """Stored activations stand in for images; arguments as those of `console.show_cache`."""

    @contextmanager
    def progress(self, what: str, total: float | None) -> Iterator[Advance]:
        """Something that takes a while begins; what it is given tells how much has been done since the last time."""
        yield lambda _done: None
