"""A sweep: every job in a process of its own, all below one parent run, with a comparison at the end (`sweep_end.py`).

Hydra decides which jobs there are and, by its launcher, how many run at once; `sweep_jobs.py` runs each of them.
"""

import importlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict, read_write

import thawlab
from thawlab.config.job import Job, config_hash
from thawlab.config.schema import Config, ConfigError
from thawlab.launch import ending, sweep_checks, warm
from thawlab.launch.owners import owned
from thawlab.launch.quoting import literal
from thawlab.launch.sweep_folder import claimed
from thawlab.launch.sweep_inputs import InputsNow
from thawlab.launch.sweep_jobs import FOLDER_VARIABLE, in_turn, job_environment, keep_facts, label
from thawlab.launch.sweep_plan import check, expand, varying
from thawlab.launch.sweep_request import Asked, take_resume
from thawlab.launch.sweep_resume import Continued, find, jobs_hash
from thawlab.system import stopping
from thawlab.system.surroundings import shown


class NotStarted(BaseException):
    """The sweep could not be started. Not an Exception, because Hydra turns those of callbacks into warnings.

    Attributes:
        reason: what stopped it.
    """

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


class NothingLeft(BaseException):
    """The sweep to go on with is finished.

    Attributes:
        sweep: that sweep.
    """

    def __init__(self, sweep: Continued) -> None:
        super().__init__(f"the sweep {sweep.run_id} is finished")
        self.sweep = sweep


class SweepCallback(Callback):
    """Hydra calls it once before the first job of a multirun."""

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        try:
            start(config)
        except BaseException as error:
            warm.end()
            if isinstance(error, Exception):
                raise NotStarted(error) from error
            raise


def is_running() -> bool:
    """Whether this process belongs to a sweep."""
    return FOLDER_VARIABLE in os.environ


def start(config: DictConfig) -> None:
    """Check every job, then open the parent run: store and experiment exist before any job needs them.

    With `resume` the parent run of the sweep to go on with is opened once more, and its folder becomes Hydra's.

    Raises:
        ConfigError: a job's settings cannot be run, the store or the folder cannot be used, or there is no sweep to go
            on with; no job was started.
        NothingLeft: the sweep to go on with is finished.
    """
    overrides = list(config.hydra.overrides.task)
    parameters = config.hydra.sweeper.get("params") or {}
    jobs, asked = take_resume(expand(overrides, {str(key): str(value) for key, value in parameters.items()}))
    ((overrides,), _) = take_resume([overrides])
    planned = _Planned(overrides, jobs, check(jobs), varying(jobs))
    warmed = planned.configs[0][0].sweep.warm and in_turn(config.hydra.launcher)
    if warmed and not asked.resume:  # then there may be nothing to train
        warm.begin(owned(job_environment()))  # it loads beside what follows
    checking = sweep_checks.begin((job[0] for job in planned.configs), goes_on=bool(asked.resume))
    try:
        importlib.import_module("thawlab.tracking.store")  # takes seconds, beside which networks and weights are read

        folder, past = _open(planned, Path(config.hydra.sweep.dir), asked, checking)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error
    finally:
        checking.stop()
    if warmed and past is not None and past.progress.left:
        warm.begin(owned(job_environment()))
    os.environ |= {FOLDER_VARIABLE: str(folder.resolve()), **owned(os.environ)}
    _use(config, folder.resolve())
    stopping.handle_stops(_stop, stopping.ORDERS)  # between two jobs, or while a parallel launcher is at work
    for note in past.notes if past else ():
        print(shown(note), flush=True)
    how = f"; {past.words}" if past else ""
    print(shown(f"sweep of {len(jobs)} runs: {planned.title}{how}"), flush=True)
    Thread(target=_load_comparison, daemon=True).start()


def _load_comparison() -> None:
    """Import what the end of the sweep needs, while its jobs are at work."""
    with suppress(ImportError):  # the end will say so
        importlib.import_module("thawlab.compare.compare_runs")
        importlib.import_module("thawlab.compare.publish")


@dataclass(frozen=True)
class _Planned:
    """A sweep as it was asked for: what was typed, its jobs as overrides and typed, and the keys that differ."""

    overrides: Sequence[str]
    jobs: Sequence[Sequence[str]]
    configs: Sequence[tuple[Config, ...]]
    swept: Mapping[str, Sequence[str]]

    @property
    def title(self) -> str:
        """`experiment` or `sweep`, and what varies."""
        name = next((each.partition("=")[2] for each in self.overrides if each.startswith("experiment=")), "sweep")
        return " ".join([name, *(f"{key}={','.join(values)}" for key, values in self.swept.items())])


def _open(
    planned: _Planned, folder: Path, asked: Asked, checking: sweep_checks.Checking
) -> tuple[Path, Continued | None]:
    """Open the parent run, once all is checked; returns the sweep's folder, and what it goes on with."""
    from thawlab.tracking.store import open_store

    tracking = planned.configs[0][0].tracking
    store = open_store(tracking.uri, Path(tracking.root))
    experiment = Job(planned.configs[0][0], folder).experiment_name
    inputs = InputsNow(checking.finish, thawlab.__version__)
    past = find(store, experiment, asked, planned.configs, inputs) if asked.resume else None
    order = [config_hash(config) for job in planned.configs for config in job]
    ending.tell(uri=tracking.uri, root=tracking.root, order=order)
    if past is not None and past.over:
        ending.tell(parent_id=past.run_id)
        raise NothingLeft(past)
    checking.finish()
    folder = past.folder if past and past.folder else folder
    keys = list(planned.swept)
    content: dict[str, Any] = {"title": planned.title, "jobs": len(planned.jobs), "varying": keys}
    content |= {"labels": [label(job, keys) for job in planned.jobs], "plan": past.progress.plan if past else {}}
    content |= {"sweep_id": (past and past.sweep_id) or folder.name}
    content |= {"uri": store.uri, "root": tracking.root, "tracking_uri": tracking.uri}
    with claimed(folder, past.run_id if past else None):
        parent = _open_parent(store, experiment, folder, planned, content["sweep_id"], past)
        try:
            keep_facts(folder, {**content, "parent_id": parent.id})
            ending.tell(parent_id=parent.id)
        except OSError:
            parent.end("FAILED")
            raise
    return folder, past


def _open_parent(
    store: Any, experiment: str, folder: Path, planned: _Planned, sweep_id: str, past: Continued | None
) -> Any:
    from thawlab.tracking.past_sweeps import JOBS_TAG, RUNS_TAG
    from thawlab.tracking.sweeps import start_parent, sweep_note
    from thawlab.tracking.taken_over import naming

    count, resume_id = len(planned.configs), past.run_id if past else None
    tags = {"sweep_id": sweep_id, "sweep_dir": str(folder.resolve()), "sweep_jobs": count}
    tags |= {JOBS_TAG: jobs_hash(planned.configs), RUNS_TAG: sum(map(len, planned.configs))}
    tags |= naming(past.progress.taken, past.tags) if past else {}
    if resume_id is None:
        tags["overrides"] = "\n".join(planned.overrides)
    return start_parent(
        store,
        experiment,
        planned.title[:200],
        tags,
        sweep_note(f"python train.py -m {' '.join(planned.overrides)}", count, planned.swept),
        {key: ",".join(values) for key, values in planned.swept.items()},
        resume_id,
    )


def _use(config: DictConfig, folder: Path) -> None:
    """Let Hydra put the jobs into the folder; the configuration of each is composed anew, from overrides."""
    with read_write(config), open_dict(config):
        config.hydra.sweep.dir = str(folder).replace("${", "\\${")
        config.hydra.overrides.hydra.append(f"hydra.sweep.dir={literal(str(folder))}")


def _stop(signum: int, _frame: FrameType | None) -> None:
    stopping.leave_closed_terminal(signum)
    raise stopping.stopped_by(signum)
