"""Going on with a sweep: which one, what was done of it or elsewhere before, and what is left to do."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thawlab.config.job import Job, config_hash
from thawlab.config.schema import ConfigError
from thawlab.launch.sweep_at_rest import check_at_rest, jobs_at_rest, may_be_at_work, wait_for_jobs
from thawlab.launch.sweep_folder import belongs_to
from thawlab.launch.sweep_inputs import InputsNow
from thawlab.launch.sweep_progress import Configs, Progress, Rules, outdated, progress
from thawlab.launch.sweep_request import Asked

if TYPE_CHECKING:
    from thawlab.tracking.run_record import RunRecord
    from thawlab.tracking.store import Store

_LISTED = 3  # runs that a note names before it only counts


@dataclass(frozen=True)
class Continued:
    """A sweep to go on with, or one to open that has runs from earlier ones.

    Attributes:
        run_id: its parent run; None if no sweep of just these jobs can go on.
        sweep_id: the name that its runs know it by; None as above.
        folder: its output folder; None if that is gone, or is not this sweep's.
        tags: of its parent run.
        progress: how far its jobs are.
        over: whether the sweep is FINISHED and compared, with nothing left to do.
    """

    run_id: str | None
    sweep_id: str | None
    folder: Path | None
    tags: Mapping[str, str]
    progress: Progress
    over: bool

    @property
    def words(self) -> str:
        """How many jobs are done and how many go on."""
        now = self.progress
        taken = f"; runs taken over from before: {len(now.taken)}" if now.taken else ""
        begun = f", {now.begun} are gone on with" if now.begun else ""
        failed = f", {now.failed} failed before, which retry=failed tries again" if now.failed else ""
        return f"{now.done} of its runs are finished{begun}{failed}{taken}"

    @property
    def notes(self) -> list[str]:
        """What was done before and is not taken over."""
        return [f"not taken over, since {why}: {_listed(run_ids)}" for why, run_ids in self.progress.unfit.items()]


def jobs_hash(configs: Configs) -> str:
    """Agrees for sweeps of the same jobs in the same order, wherever and however fast they run."""
    hashes = [[config_hash(config) for config in job] for job in configs]
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()[:12]


def find(store: "Store", experiment_name: str, asked: Asked, configs: Configs, inputs: InputsNow) -> Continued:
    """The latest sweep of these jobs, or the one whose parent run or folder `resume` names, with all that is done.

    With `resume=true` a sweep of other jobs will do: what was done in it, or in any other run of the experiment, stands
    for the same jobs of a new sweep.

    Raises:
        ConfigError: there is none, it is still at work, or its images or weights have changed since.
        ValueError: the store cannot be used.
    """
    from thawlab.tracking.past_sweeps import JOBS_TAG, past_sweeps
    from thawlab.tracking.store_creation import is_made

    made = store.database is None or is_made(store.database)
    known = past_sweeps(store, experiment_name) if made else []
    named = [each for each in known if asked.resume in ("true", each.run_id, each.tags.get("sweep_id"))]
    matching = [each for each in named if each.tags.get(JOBS_TAG) == jobs_hash(configs)]
    nothing = ConfigError(f"resume={asked.resume}: {_none(experiment_name, asked.resume, known, named)}")
    if not made or (not matching and asked.resume != "true"):
        raise nothing
    runs = _runs(store, configs, known)
    sweep = _fitting(matching, runs, asked, configs, inputs)
    if sweep is not None:
        check_at_rest(sweep, asked.resume)
        below = jobs_at_rest(store, sweep, asked.resume)
        runs = sorted([*below, *(run for run in runs if run.parent_id != sweep.run_id)], key=lambda run: run.started)
    rules = Rules(
        own=frozenset(each.run_id for each in _of(sweep, runs)) if sweep else frozenset(),
        parent_id=sweep.run_id if sweep else None,
        at_work=frozenset(each.run_id for each in known if may_be_at_work(each)),
        retry=asked.retry,
    )
    found = progress(configs, runs, rules, inputs.of)
    if found.busy:
        raise ConfigError(
            f"resume={asked.resume}: runs of these jobs are at work at this moment ({_listed(found.busy)}); wait for "
            "their end, or stop them first"
        )
    if sweep is None and found.is_empty:
        raise nothing
    return _continued(sweep, found, len(configs))


def _runs(store: "Store", configs: Configs, sweeps: Sequence["RunRecord"]) -> list["RunRecord"]:
    """All runs of these settings, once those of sweeps that were killed have ended, too."""
    from thawlab.tracking.past_sweeps import runs_with_settings

    names = {Job(config, Path()).experiment_name for job in configs for config in job}
    hashes = {config_hash(config) for job in configs for config in job}
    ended = {each.run_id for each in sweeps if not may_be_at_work(each)}
    return wait_for_jobs(lambda: runs_with_settings(store, names, hashes), ended)


def _continued(sweep: "RunRecord | None", found: Progress, jobs: int) -> Continued:
    if sweep is None:
        return Continued(None, None, None, {}, found, over=False)
    folder = Path(sweep.tags["sweep_dir"])
    over = sweep.status == "FINISHED" and found.done == jobs and (sweep.is_compared or jobs < 2)
    kept = folder if belongs_to(folder, sweep.run_id) else None
    return Continued(sweep.run_id, sweep.tags.get("sweep_id", folder.name), kept, sweep.tags, found, over)


def _fitting(
    sweeps: Sequence["RunRecord"], runs: Sequence["RunRecord"], asked: Asked, configs: Configs, inputs: InputsNow
) -> "RunRecord | None":
    """The latest of these sweeps none of whose finished runs is outdated: they would be compared with the others.

    Raises:
        ConfigError: it was named, and is outdated.
    """
    for sweep in sweeps:
        found = outdated(configs, _of(sweep, runs), inputs.of)
        if found is None:
            return sweep
        if asked.resume != "true":
            run, why = found
            raise ConfigError(
                f"resume={asked.resume}: {why} the run {run.run_id} of this sweep was trained; bring back what was, or "
                "use resume=true, which trains anew what does not fit"
            )
    return None


def _of(sweep: "RunRecord", runs: Iterable["RunRecord"]) -> list["RunRecord"]:
    """Those of the runs that are below the sweep, or that it took over."""
    from thawlab.tracking.taken_over import taken_over

    taken = set(taken_over(sweep.tags))
    return [run for run in runs if run.run_id in taken or run.parent_id == sweep.run_id]


def _listed(run_ids: Sequence[str]) -> str:
    more = f" and {len(run_ids) - _LISTED} more" if len(run_ids) > _LISTED else ""
    return ", ".join(run_ids[:_LISTED]) + more


def _none(experiment_name: str, resume: str, known: Sequence["RunRecord"], named: Sequence["RunRecord"]) -> str:
    if not known:
        return f"experiment {experiment_name!r} has no sweep to go on with; leave resume out to start one"
    latest = (named or known)[0]
    command = " ".join(["-m", *latest.tags.get("overrides", "").split("\n")])
    if resume != "true" and not named:
        which = f"experiment {experiment_name!r} has no such sweep; its latest one is {latest.run_id} (`{command}`)"
    elif resume != "true":
        which = f"that sweep has other jobs (`{command}`)"
    else:
        which = (
            f"experiment {experiment_name!r} has no sweep of these jobs; its latest one is {latest.run_id} "
            f"(`{command}`)"
        )
    return f"{which}; give the settings that it was started with, or leave resume out to start a new sweep"
