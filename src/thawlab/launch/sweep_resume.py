"""Going on with a sweep: which of its jobs are done, which have begun, and what is left to do."""

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawlab.config.job import config_hash
from thawlab.config.schema import Config, ConfigError
from thawlab.launch.sweep_folder import belongs_to

if TYPE_CHECKING:
    from thawlab.tracking.run_record import RunRecord
    from thawlab.tracking.store import Store

Configs = Sequence[Sequence[Config]]  # of each job: one, or those of the heads that it trains together
_PATIENCE = 90.0  # seconds in which the jobs of a sweep that was killed close their runs


@dataclass(frozen=True)
class Continued:
    """A sweep to go on with.

    Attributes:
        run_id: its parent run.
        sweep_id: the name that its runs know it by.
        folder: its output folder; None if that is gone, or is not this sweep's.
        plan: of each job that has begun, by its number from 1 as text: whether it is `done`, then with the `run_id`,
            `metrics` and `seconds` of its (best) run; else `again`, the runs to go on with by the hash of their
            configuration, `finished`, the hashes of heads that are done, and the `folder` of the run. A job that is
            still to be done may have a `sister`: a run that shares its data set, and if `weights` its backbone, too.
        over: whether the sweep is FINISHED and compared, with nothing left to do.
    """

    run_id: str
    sweep_id: str
    folder: Path | None
    plan: Mapping[str, Mapping[str, Any]]
    over: bool

    @property
    def words(self) -> str:
        """How many jobs are done and how many go on."""
        done = sum(bool(part.get("done")) for part in self.plan.values())
        begun = sum(bool(part.get("again")) for part in self.plan.values())
        return f"{done} of its runs are finished" + (f", {begun} are gone on with" if begun else "")


def take_resume(jobs: Sequence[Sequence[str]]) -> tuple[list[list[str]], str]:
    """The jobs without `resume`, which is the sweep's; and its value: empty if the sweep is a new one.

    Raises:
        ConfigError: the jobs differ in it.
    """
    kept, values = [], set()
    for job in jobs:
        own = [each for each in job if each.lstrip("+").partition("=")[0] == "resume"]
        kept.append([each for each in job if each not in own])
        values.add(own[-1].partition("=")[2].strip("'\"") if own else "false")
    if len(values) > 1:
        raise ConfigError(
            f"resume={','.join(sorted(values))}: a sweep goes on as a whole; use resume=true with the command that it "
            "was started with, or resume=ID with the id of its parent run"
        )
    value = values.pop() if values else "false"
    return kept, "" if value.lower() == "false" else "true" if value.lower() == "true" else value


def jobs_hash(configs: Configs) -> str:
    """Agrees for sweeps of the same jobs in the same order, wherever and however fast they run."""
    hashes = [[config_hash(config) for config in job] for job in configs]
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()[:12]


def find(store: "Store", experiment_name: str, resume: str, configs: Configs) -> Continued:
    """The latest sweep of these jobs, or the one whose parent run or folder `resume` names.

    Raises:
        ConfigError: there is none, or it is still at work.
        ValueError: the store cannot be used.
    """
    from thawlab.tracking.past_sweeps import JOBS_TAG, past_sweeps
    from thawlab.tracking.store_creation import is_made

    known = past_sweeps(store, experiment_name) if store.database is None or is_made(store.database) else []
    named = [each for each in known if resume in ("true", each.run_id, each.tags.get("sweep_id"))]
    matching = [each for each in named if each.tags.get(JOBS_TAG) == jobs_hash(configs)]
    if not matching:
        raise ConfigError(f"resume={resume}: {_none(experiment_name, resume, known, named)}")
    chosen = matching[0]
    _check_at_rest(chosen, resume)
    jobs = _at_rest(store, chosen, resume)
    folder = Path(chosen.tags["sweep_dir"])
    plan = _plan(jobs, configs)
    done = sum(bool(part.get("done")) for part in plan.values())
    over = chosen.status == "FINISHED" and done == len(configs) and (chosen.is_compared or done < 2)
    kept = folder if belongs_to(folder, chosen.run_id) else None
    return Continued(chosen.run_id, chosen.tags.get("sweep_id", folder.name), kept, plan, over)


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


def _check_at_rest(sweep: "RunRecord", resume: str) -> None:
    if sweep.status != "RUNNING" or sweep.alive is False:
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


def _at_rest(store: "Store", sweep: "RunRecord", resume: str) -> list["RunRecord"]:
    """The sweep's jobs, once those that end because it was killed have done so."""
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
        time.sleep(0.5)
    close_lost(store, sweep.run_id)
    elsewhere = [job.run_id for job in jobs if job.status == "RUNNING" and job.alive is None]
    if elsewhere and resume == "true":
        raise ConfigError(
            f"resume=true: runs of this sweep may still be at work on another machine ({', '.join(elsewhere)}); if "
            f"they are not, go on with it by resume={sweep.run_id}"
        )
    return past_jobs(store, sweep.run_id)


def _plan(jobs: Sequence["RunRecord"], configs: Configs) -> dict[str, dict[str, Any]]:
    finished: dict[str, list[RunRecord]] = defaultdict(list)
    begun: dict[str, list[RunRecord]] = defaultdict(list)
    for job in jobs:  # the latest of those that began last
        (finished if job.status == "FINISHED" else begun)[job.tags.get("config_hash", "")].append(job)
    plan: dict[str, dict[str, Any]] = {}
    for number, job_configs in enumerate(configs, 1):
        # The same job may be there twice, so each run is taken once.
        done = {name: finished[name].pop(0) for name in map(config_hash, job_configs) if finished[name]}
        rest = [name for name in map(config_hash, job_configs) if name not in done]
        if not rest:
            plan[str(number)] = {"done": True, **_result(list(done.values()))}
            continue
        again = {name: begun[name].pop() for name in rest if begun[name]}
        part: dict[str, Any] = {"again": {name: job.run_id for name, job in again.items()}, "finished": [*done]}
        if len(job_configs) == 1 and again:
            (run,) = again.values()
            part["folder"] = run.tags.get("output_dir")
        plan[str(number)] = part
    for number, sister in _sisters(plan, configs):
        plan[number]["sister"] = sister
    return plan


def _result(done: Sequence["RunRecord"]) -> dict[str, Any]:
    best = max(done, key=lambda each: each.metrics.get("best/val_acc", -1.0))
    return {"run_id": best.run_id, "metrics": dict(best.metrics), "seconds": best.seconds}


def _sisters(plan: Mapping[str, Mapping[str, Any]], configs: Configs) -> Iterator[tuple[str, dict[str, Any]]]:
    """For each job that is not done one that is, with the same data set, if possible with the same backbone, too."""
    done = [(part["run_id"], configs[int(number) - 1][0]) for number, part in plan.items() if part.get("done")]
    for number, part in plan.items():
        mine = configs[int(number) - 1][0]
        alike = [(run_id, one) for run_id, one in done if one.dataset == mine.dataset]
        if part.get("done") or not alike:
            continue
        loads = mine.backbone.pretrained or mine.backbone.checkpoint_path is not None  # else its seed decides
        both = [run_id for run_id, one in alike if loads and one.backbone == mine.backbone]
        yield number, {"run_id": (both or [alike[0][0]])[0], "weights": bool(both)}
