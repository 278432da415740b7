"""Whether a sweep, and the jobs of those that ended, are at work still: what is at work is not gone on with."""

import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from thawlab.config.schema import ConfigError

if TYPE_CHECKING:
    from thawlab.tracking.run_record import RunRecord
    from thawlab.tracking.store import Store

_PATIENCE = 90.0  # seconds in which the jobs of a sweep that was killed close their runs
_STEP = 0.5


def may_be_at_work(sweep: "RunRecord") -> bool:
    """Whether its process is there, or cannot be seen from here."""
    return sweep.status == "RUNNING" and sweep.alive is not False


def wait_for_jobs(read: Callable[[], list["RunRecord"]], ended: Collection[str]) -> list["RunRecord"]:
    """The runs, once those below parent runs that ended have ended, too, or will not do so soon."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        runs = read()
        closing = [run for run in runs if run.status == "RUNNING" and run.alive and run.parent_id in ended]
        if not closing or time.monotonic() > deadline:
            return runs
        time.sleep(_STEP)


def check_at_rest(sweep: "RunRecord", resume: str) -> None:
    """Refuse a sweep that is at work.

    Raises:
        ConfigError: it is, or may be on another machine and was not named.
    """
    if not may_be_at_work(sweep):
        return
    host, pid = ["?", "?", *sweep.tags.get("process", "").split(":")][-3:-1]
    if sweep.alive:
        raise ConfigError(
            f"resume={resume}: this sweep ({sweep.run_id}) is still at work, in process {pid}; wait for its end, or "
            "stop it first"
        )
    if resume == "true":
        raise ConfigError(
            f"resume=true: this sweep may still be at work on {host}, in process {pid}; if it is not, go on with it by "
            f"resume={sweep.run_id}"
        )


def jobs_at_rest(store: "Store", sweep: "RunRecord", resume: str) -> list["RunRecord"]:
    """The sweep's jobs, once those that end because it was killed have done so.

    Raises:
        ConfigError: some are at work, or may be on another machine.
    """
    from thawlab.tracking.dead_runs import close_lost
    from thawlab.tracking.past_sweeps import past_jobs

    deadline = time.monotonic() + _PATIENCE
    while True:
        jobs = past_jobs(store, sweep.run_id)
        busy = [job.run_id for job in jobs if job.status == "RUNNING" and job.alive]
        if not busy:
            break
        if time.monotonic() > deadline:
            raise ConfigError(
                f"resume={resume}: runs of this sweep are still at work ({', '.join(busy)}); stop them first"
            )
        time.sleep(_STEP)
    close_lost(store, sweep.run_id)
    elsewhere = [job.run_id for job in jobs if job.status == "RUNNING" and job.alive is None]
    if elsewhere and resume == "true":
        raise ConfigError(
            f"resume=true: runs of this sweep may still be at work on another machine ({', '.join(elsewhere)}); if "
            f"they are not, go on with it by resume={sweep.run_id}"
        )
    return past_jobs(store, sweep.run_id)
