"""The sweeps of a store, with how far each is and what it found."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from thawlab.tracking.dead_runs import close_dead
from thawlab.tracking.past_sweeps import RUNS_TAG
from thawlab.tracking.processes import PROCESS_TAG, is_alive
from thawlab.tracking.run_record import PARENT_TAG, RunRecord
from thawlab.tracking.run_search import RunSearch
from thawlab.tracking.select_runs import check_there, experiment_id, with_taken
from thawlab.tracking.store import Store, impatient, plain_messages

_NEWEST = ["attributes.start_time DESC"]


@dataclass(frozen=True)
class ListedSweep:
    """A sweep in a list.

    Attributes:
        parent: its parent run; `alive` says whether its process is there.
        experiment: the name of its experiment.
        done: how many of its runs are FINISHED, those that it took over included.
        failed: how many failed and were not done since.
        missing: how many were interrupted, are at work, were deleted or have not begun.
    """

    parent: RunRecord
    experiment: str
    done: int
    failed: int
    missing: int

    @property
    def answer(self) -> str:
        """The first sentence of its comparison; empty if none is kept."""
        return self.parent.tags.get("summary.conclusion", "").partition(". ")[0]


def list_sweeps(store: Store, experiment: str | None, most: int) -> list[ListedSweep]:
    """The latest sweeps, the newest first.

    Args:
        store: where they are kept.
        experiment: the name of theirs; None for all.
        most: how many at most.

    Raises:
        ValueError: there is no such store or experiment, or the store cannot be used.
    """
    check_there(store)
    with plain_messages(store), impatient():
        close_dead(store)
        client, search = store.client(), RunSearch(store)
        ids = search.experiments() if experiment is None else [experiment_id(store, experiment)]
        found = client.search_runs(ids, "tags.sweep_dir LIKE '%'", order_by=_NEWEST, max_results=most) if ids else []
        parents = [RunRecord.of(run) for run in found if PARENT_TAG not in run.data.tags]
        names = {each: client.get_experiment(each).name for each in {parent.experiment_id for parent in parents}}
        return [_listed(each, with_taken(search, each), names[each.experiment_id]) for each in parents]


def _listed(parent: RunRecord, runs: Sequence[RunRecord], experiment: str) -> ListedSweep:
    done = [run for run in runs if run.status == "FINISHED"]
    settled = {run.tags.get("config_hash") for run in done}
    latest = {run.tags.get("config_hash"): run for run in runs if run.tags.get("config_hash") not in settled}
    failed = sum(run.status == "FAILED" for run in latest.values())
    planned = int(parent.tags.get(RUNS_TAG) or _jobs(parent, runs))
    alive = is_alive(parent.tags.get(PROCESS_TAG)) if parent.status == "RUNNING" else False
    return ListedSweep(
        replace(parent, alive=alive), experiment, len(done), failed, max(planned - len(done) - failed, 0)
    )


def _jobs(parent: RunRecord, runs: Sequence[RunRecord]) -> int:
    """How many runs a sweep was to have, where it does not say so: it is of an earlier version, or of heads alone."""
    heads = max((int(run.tags.get("heads", 1)) for run in runs), default=1)
    return max(int(parent.tags.get("sweep_jobs", 1)) * heads, len({run.tags.get("config_hash") for run in runs}))
