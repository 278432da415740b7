"""Sweeps that were started earlier, and what came of their jobs."""

from collections.abc import Collection, Iterator
from dataclasses import replace

from thawlab.tracking.mlflow_names import leaving
from thawlab.tracking.processes import PROCESS_TAG, is_alive
from thawlab.tracking.run_record import PARENT_TAG, RunRecord
from thawlab.tracking.run_search import RunSearch
from thawlab.tracking.store import Store, impatient, plain_messages
from thawlab.tracking.taken_over import taken_over

JOBS_TAG = "sweep_jobs_hash"
"""The tag that agrees for sweeps of the same jobs in the same order."""
RUNS_TAG = "sweep_runs"
"""The tag that says how many runs the jobs of a sweep are: heads that are trained together are one each."""


def past_sweeps(store: Store, experiment_name: str) -> list[RunRecord]:
    """The sweeps of an experiment, the latest first.

    Raises:
        ValueError: the store cannot be used.
    """
    with plain_messages(store), impatient():
        found = store.client().get_experiment_by_name(leaving(experiment_name))  # as it was recorded
        if found is None:
            return []
        return list(_runs(store, found.experiment_id, "tags.sweep_dir LIKE '%'", "DESC"))


def past_jobs(store: Store, sweep_id: str) -> list[RunRecord]:
    """The runs right below a sweep's parent run, the oldest first; without deleted ones.

    Raises:
        ValueError: the store cannot be used.
    """
    with plain_messages(store), impatient():
        experiment_id = store.client().get_run(sweep_id).info.experiment_id
        return list(_runs(store, experiment_id, f"tags.{PARENT_TAG} = '{sweep_id}'", "ASC"))


def runs_of_sweep(store: Store, sweep_id: str) -> list[RunRecord]:
    """The runs right below a sweep's parent run, and those that it took over; without deleted ones.

    Raises:
        ValueError: the store cannot be used.
    """
    with plain_messages(store), impatient():
        taken = taken_over(store.client().get_run(sweep_id).data.tags)
        return [*past_jobs(store, sweep_id), *(RunSearch(store).by_id(taken) if taken else ())]


def runs_with_settings(
    store: Store, experiment_names: Collection[str], config_hashes: Collection[str]
) -> list[RunRecord]:
    """The runs of some experiments whose configuration has one of these hashes, the oldest first.

    Deleted runs are left out.

    Raises:
        ValueError: the store cannot be used.
    """
    with plain_messages(store), impatient():
        client = store.client()
        found = [client.get_experiment_by_name(leaving(name)) for name in experiment_names]  # as they were recorded
        ids = [each.experiment_id for each in found if each is not None]
        records = RunSearch(store).tagged(ids, "config_hash", config_hashes) if ids else []
        return [replace(each, alive=is_alive(each.tags.get(PROCESS_TAG))) for each in records]


def _runs(store: Store, experiment_id: str, filter: str, order: str) -> Iterator[RunRecord]:
    """All runs that match, and whether each one's process is there."""
    client, token = store.client(), None
    while True:
        page = client.search_runs(
            [experiment_id], filter, order_by=[f"attributes.start_time {order}"], page_token=token
        )
        for run in page:
            yield replace(RunRecord.of(run), alive=is_alive(run.data.tags.get(PROCESS_TAG)))
        token = page.token
        if not token:
            return
