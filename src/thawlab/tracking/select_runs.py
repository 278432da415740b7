"""Reading runs back from a tracking store: those of a sweep, of an experiment, or whichever are asked for."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow.exceptions import MlflowException

from thawlab.config.nearest import nearest
from thawlab.tracking.dead_runs import close_dead
from thawlab.tracking.mlflow_names import leaving
from thawlab.tracking.processes import PROCESS_TAG, is_alive
from thawlab.tracking.run_record import PARENT_TAG, RunRecord
from thawlab.tracking.run_search import RunSearch
from thawlab.tracking.store import Store, impatient, plain_messages
from thawlab.tracking.taken_over import taken_over

__all__ = ["RunRecord", "Selection", "select_runs"]

_NEWEST = "attributes.start_time DESC"
_OLDEST = "attributes.start_time ASC"
_LISTED = 5


@dataclass(frozen=True)
class Selection:
    """Runs that were asked for.

    Attributes:
        records: the oldest first; without deleted runs, and without those that have runs below them.
        title: what they are, in words.
        parent_id: the run that they are below of, if they are those of a sweep.
        unfinished: what is not there of a sweep, in words; empty if it went through and nothing was deleted since.
    """

    records: tuple[RunRecord, ...]
    title: str
    parent_id: str | None = None
    unfinished: str = ""


def select_runs(
    store: Store,
    *,
    sweep: str | None = None,
    experiment: str | None = None,
    runs: Sequence[str] = (),
    filter: str | None = None,
) -> Selection:
    """Find runs; with nothing but the store, those of the latest sweep.

    Args:
        store: where they are kept.
        sweep: `latest`, the id of the sweep's parent run, or the name or path of its output folder.
        experiment: name of an experiment, all of whose runs are meant.
        runs: ids.
        filter: in MLflow's own words; alone, it is asked of all experiments, else of what the others select.

    Raises:
        ValueError: there is no such sweep, experiment or run, MLflow cannot read the filter, or the store is not there.
    """
    check_there(store)
    with plain_messages(store), impatient():
        close_dead(store)
        search = RunSearch(store)
        if runs:
            found = _by_id(search, runs)
        elif experiment is not None:
            return _of_experiment(store, search, experiment, filter)
        elif sweep is None and filter:
            with _readable(filter):
                records = search.in_experiments(search.experiments(), filter)
            return _filled(Selection(tuple(records), f"runs with {filter}"), filter)
        else:
            found = _of_sweep(store, search, sweep or "latest")
        if not filter:
            return found
        with _readable(filter):
            records = search.matching(found.records, filter)
        title = f"{found.title}, with {filter}"
        return _filled(Selection(tuple(records), title, found.parent_id, found.unfinished), filter)


def check_there(store: Store) -> None:
    """Refuse a local store that no run has made yet.

    Raises:
        ValueError: it is not there.
    """
    if store.database is not None and not store.database.is_file():
        raise ValueError(
            f"root={store.database.parent}: there is no store {store.database.name} there; train something first, or "
            "use root=FOLDER for another store, or uri=ADDRESS for a server"
        )


def experiment_id(store: Store, name: str) -> str:
    """The id of the experiment of this name.

    Raises:
        ValueError: there is none, or it was deleted.
    """
    client = store.client()
    found = client.get_experiment_by_name(leaving(name))  # as it was recorded
    if found is None or found.lifecycle_stage == "deleted":
        names = [each.name for each in client.search_experiments(order_by=["last_update_time DESC"])]
        near = nearest(name, names) or names[:_LISTED]
        what = "there is no such experiment" if found is None else "this experiment was deleted"
        raise ValueError(f"experiment={name}: {what} in {store.uri}; use {', '.join(near) or 'another store'}")
    return found.experiment_id


def with_taken(search: RunSearch, parent: RunRecord) -> list[RunRecord]:
    """The runs below a sweep's parent run and those that it took over, the oldest first; without deleted ones."""
    below = search.below(parent)
    known = {each.run_id for each in below}
    taken = search.by_id([each for each in taken_over(parent.tags) if each not in known])
    return sorted([*below, *taken], key=lambda each: (each.started, each.run_id))


def _by_id(search: RunSearch, runs: Sequence[str]) -> Selection:
    found = {each.run_id: each for each in search.by_id(list(dict.fromkeys(runs)))}
    missing = [each for each in dict.fromkeys(runs) if each not in found]
    if missing:
        known = {run_id: search.one(run_id) for run_id in missing}
        words = [
            f"{run_id} (deleted: {one[0].name})" if one else f"{run_id} (no such run)" for run_id, one in known.items()
        ]
        raise ValueError(f"runs: {', '.join(words)}; leave them out; {_latest_runs(search)}")
    return Selection(tuple(found.values()), f"{len(found)} runs" if len(found) != 1 else "1 run")


def _of_experiment(store: Store, search: RunSearch, name: str, filter: str | None) -> Selection:
    found = experiment_id(store, name)
    with _readable(filter):
        records = search.in_experiments([found], filter)
    if not filter and not records:
        raise ValueError(f"experiment={name}: it has no runs; train something first, or use another experiment")
    title = f"experiment {name}" + (f", with {filter}" if filter else "")
    return _filled(Selection(tuple(records), title), filter)


def _of_sweep(store: Store, search: RunSearch, sweep: str) -> Selection:
    parent = _latest_parent(search) if sweep == "latest" else _parent(search, sweep)
    if parent is None:
        sweeps = _parents(search)
        if not sweeps:
            raise ValueError(
                f"sweep={sweep}: {store.uri} holds no sweep; run one with `python train.py -m …`, or use "
                "experiment=NAME or runs=[ID,ID]"
            )
        ids = [each.tags["sweep_id"] for each in sweeps if "sweep_id" in each.tags]
        near = nearest(sweep, ids)
        listed = [f"{each.tags.get('sweep_id', each.run_id)} ({each.name})" for each in sweeps[:_LISTED]]
        hint = f"nearest: {', '.join(near)}; " if near else ""
        raise ValueError(f"sweep={sweep}: there is no such sweep in {store.uri}; {hint}latest: {', '.join(listed)}")
    records = with_taken(search, parent)
    if not records:
        raise ValueError(
            f"sweep={sweep}: the run {parent.run_id} ({parent.name}) has no runs below it; use runs=[ID,ID]"
        )
    return Selection(tuple(records), parent.name or sweep, parent.run_id, _unfinished(parent, len(records)))


def _unfinished(parent: RunRecord, there: int) -> str:
    planned = int(parent.tags.get("sweep_jobs", there))
    missing = f"{planned - there} of its {planned} runs are not there: not begun, or deleted" if planned > there else ""
    if parent.status in ("KILLED", "RUNNING"):
        at_work = parent.status == "RUNNING" and is_alive(parent.tags.get(PROCESS_TAG)) is not False
        ended = "is still running" if at_work else "was stopped before its end"
        return f"the sweep {ended}" + (f"; {missing}" if missing else "")
    return f"of the sweep {missing}" if missing else ""


def _parents(search: RunSearch) -> list[RunRecord]:
    """The latest sweeps, the newest first."""
    found = search.first("tags.sweep_dir LIKE '%'", _NEWEST, 50)
    found = found or search.first("tags.sweep_id LIKE '%'", _NEWEST, 1000)
    return [each for each in found if PARENT_TAG not in each.tags]


def _latest_parent(search: RunSearch) -> RunRecord | None:
    if found := _parents(search):
        return found[0]
    latest = search.first("tags.sweep_id LIKE '%'", _NEWEST)  # a sweep of so many jobs that its parent is far behind
    return _above(search, latest[0]) if latest else None


def _parent(search: RunSearch, sweep: str) -> RunRecord | None:
    if re.fullmatch(r"[0-9a-f]{32}", sweep):
        found = search.one(sweep)
        if found and found[1]:
            raise ValueError(f"sweep={sweep}: this run ({found[0].name}) was deleted; use another, or sweep=latest")
        if found and (above := found[0].tags.get(PARENT_TAG)) and not found[0].is_sweep:
            raise ValueError(f"sweep={sweep}: this is a single run of the sweep {above}; use sweep={above}")
        return found[0] if found else None
    name = Path(sweep).name
    if not re.fullmatch(r"[^'\"`\\]+", name):
        return None
    for filter, order in (
        (f"tags.sweep_id = '{name}' AND tags.sweep_dir LIKE '%'", _NEWEST),
        (f"tags.sweep_id = '{name}'", _OLDEST),
    ):
        if found := search.first(filter, order):
            return _above(search, found[0])
    return None


def _above(search: RunSearch, record: RunRecord) -> RunRecord:
    """The run that has none above it."""
    while (above := record.tags.get(PARENT_TAG)) and (found := search.one(above)):
        record = found[0]
    return record


def _latest_runs(search: RunSearch) -> str:
    latest = search.first("", _NEWEST, _LISTED)
    listed = ", ".join(f"{each.run_id} ({each.name})" for each in latest)
    return f"the latest are {listed}" if listed else "the store has no runs"


def _filled(selection: Selection, filter: str | None) -> Selection:
    if filter and not selection.records:
        raise ValueError(
            f"filter={filter}: no run matches; names are those of MLflow's params and metrics, values of params are "
            "strings, as in filter=\"params.freeze = '4'\""
        )
    return selection


@contextmanager
def _readable(filter: str | None) -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        if not filter or error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"filter={filter}: MLflow cannot read this: {reason}; write it as in "
            "filter=\"params.freeze = '4' and metrics.`test/acc` > 0.8\""
        ) from error
