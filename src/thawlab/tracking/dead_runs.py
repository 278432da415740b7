"""Runs whose process is gone: a process that is killed says nothing, so whoever comes next says it."""

from collections.abc import Callable, Iterator, Sequence

from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from thawlab.tracking.processes import PROCESS_TAG, is_alive, this_process
from thawlab.tracking.store import Store

_WHY = "lost: its process ended without closing the run (killed, or no memory)"
_RUNNING = "attributes.status = 'RUNNING'"


def close_dead(store: Store) -> list[str]:
    """End as KILLED what is RUNNING in the store although its process on this machine is gone; returns the ids.

    What runs on another machine, or says nothing of its process, is left alone; so is everything in a store that
    cannot be written to.
    """
    client = store.client()
    experiments = [each.experiment_id for each in client.search_experiments()]
    try:
        return _close(client, experiments, _RUNNING, lambda process: is_alive(process) is False)
    except MlflowException:
        return []


def close_lost(store: Store, parent_id: str) -> list[str]:
    """End the jobs of a sweep that are still RUNNING although their process is gone; return their ids.

    A job in this process counts as gone too: call this when no job is at work here any more. Jobs on another machine
    are left alone.
    """
    client = store.client()
    experiment_id = client.get_run(parent_id).info.experiment_id
    below = f"tags.mlflow.parentRunId = '{parent_id}' and {_RUNNING}"
    return _close(client, [experiment_id], below, lambda one: one == this_process() or is_alive(one) is False)


def _close(
    client: MlflowClient, experiments: Sequence[str], filter: str, gone: Callable[[str | None], bool]
) -> list[str]:
    closed = []
    for run in [*_found(client, experiments, filter)]:
        if not gone(run.data.tags.get(PROCESS_TAG)):
            continue
        now = client.get_run(run.info.run_id)  # it may have been ended, or gone on with, in the meantime
        if now.info.status != "RUNNING" or not gone(now.data.tags.get(PROCESS_TAG)):
            continue
        client.set_tag(run.info.run_id, "error", _WHY)
        client.set_terminated(run.info.run_id, "KILLED")
        closed.append(run.info.run_id)
    return closed


def _found(client: MlflowClient, experiments: Sequence[str], filter: str) -> Iterator[MlflowRun]:
    token = None
    while experiments:
        page = client.search_runs(list(experiments), filter, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
