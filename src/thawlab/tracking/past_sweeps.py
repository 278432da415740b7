"""Sweeps that were started earlier, and what came of their jobs."""

from collections.abc import Iterator
from dataclasses import replace

from thawlab.tracking.mlflow_names import leaving
from thawlab.tracking.processes import PROCESS_TAG, is_alive
from thawlab.tracking.run_record import PARENT_TAG, RunRecord
from thawlab.tracking.store import Store, impatient, plain_messages

JOBS_TAG = "sweep_jobs_hash"
"""The tag that agrees for sweeps of the same jobs in the same order."""


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
