"""A sweep: every job in a process of its own, all below one parent run, with a comparison at the end (`sweep_end.py`).

Hydra decides which jobs there are and, by its launcher, how many run at once; each job then calls `run_child`.
"""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from thawlab import lists, preflight, schema, stopping, sweep_checks
from thawlab.config import Config, ConfigError
from thawlab.devices import check_devices
from thawlab.job import Job, make_folder
from thawlab.launch import run_child as run_process

# The folder of the sweep in progress; workers of a parallel launcher inherit it.
FOLDER_VARIABLE = "THAWLAB_SWEEP_FOLDER"


class NotStarted(BaseException):
    """The sweep could not be started. Not an Exception, because Hydra turns those of callbacks into warnings.

    Attributes:
        reason: what stopped it.
    """

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


class SweepCallback(Callback):
    """Hydra calls it once before the first job of a multirun."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        try:
            start(config)
        except Exception as error:
            raise NotStarted(error) from error


def is_running() -> bool:
    """Whether this process belongs to a sweep."""
    return FOLDER_VARIABLE in os.environ


def start(config: DictConfig) -> None:
    """Check every job, then open the parent run: store and experiment exist before any job needs them.

    Raises:
        ConfigError: a job's settings cannot be run, or the store cannot be used; no job was started.
    """
    folder = Path(config.hydra.sweep.dir)
    overrides = list(config.hydra.overrides.task)
    parameters = config.hydra.sweeper.get("params") or {}
    jobs = expand(overrides, {str(key): str(value) for key, value in parameters.items()})
    configs = check(jobs)
    checking = sweep_checks.begin(configs)
    try:
        from thawlab.tracking.store import open_store  # takes seconds, which a refused sweep need not
        from thawlab.tracking.sweeps import start_parent, sweep_note

        checking.finish()
    finally:
        checking.stop()

    first = configs[0]
    swept = varying(jobs)
    name = next((each.partition("=")[2] for each in overrides if each.startswith("experiment=")), "sweep")
    title = " ".join([name, *(f"{key}={','.join(values)}" for key, values in swept.items())])
    make_folder(folder)
    try:
        store = open_store(first.tracking.uri, Path(first.tracking.root))
        parent = start_parent(
            store,
            Job(first, folder).experiment_name,
            title[:200],
            {
                "sweep_id": folder.name,
                "sweep_dir": str(folder.resolve()),
                "sweep_jobs": len(jobs),
                "overrides": "\n".join(overrides),
            },
            sweep_note(f"python train.py -m {' '.join(overrides)}", len(jobs), swept),
            {key: ",".join(values) for key, values in swept.items()},
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    content = {"parent_id": parent.id, "sweep_id": folder.name, "jobs": len(jobs), "varying": list(swept)}
    content |= {"uri": store.uri, "root": first.tracking.root, "tracking_uri": first.tracking.uri, "title": title}
    (folder / "sweep.json").write_text(json.dumps(content), encoding="utf-8")
    os.environ[FOLDER_VARIABLE] = str(folder.resolve())
    stopping.handle_stops(_stop, stopping.ORDERS)  # between two jobs, or while a parallel launcher is at work
    print(f"sweep of {len(jobs)} runs: {title}", flush=True)


def expand(overrides: Sequence[str], parameters: Mapping[str, str]) -> list[list[str]]:
    """The jobs of a sweep, each as its list of overrides, in Hydra's order.

    Raises:
        ConfigError: there are none.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    given = [*(f"{key}={value}" for key, value in parameters.items()), *overrides]
    hydra_now = GlobalHydra.instance()
    loader = hydra_now.config_loader() if hydra_now.is_initialized() else None  # glob() asks it for the choices
    parsed = OverridesParser.create(loader).parse_overrides(given)
    jobs = [job for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]
    if not jobs:
        empty = [each.input_line for each in parsed if each.is_sweep_override() and not [*each.sweep_iterator()]]
        raise ConfigError(f"{' '.join(map(str, empty))}: stands for no value at all, so that there is nothing to run")
    return jobs


def check(jobs: Sequence[Sequence[str]]) -> list[Config]:
    """The typed configuration of every job.

    Raises:
        ConfigError: all mistakes of all jobs, each once.
    """
    from hydra import compose

    configs, mistakes = [], []
    for job in jobs:
        try:
            config = lists.parse(schema.plain(compose("config", overrides=list(job))))[0]
            check_devices(config.trainer)
            preflight.check_inputs(config)
            configs.append(config)
        except ConfigError as error:
            mistakes += str(error).splitlines()
    if configs:
        try:
            preflight.check_store(configs[0])
        except ConfigError as error:
            mistakes += str(error).splitlines()
    if mistakes:
        raise ConfigError("\n".join(dict.fromkeys(mistakes)))
    return configs


def varying(jobs: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """The keys that differ between the jobs, each with its values."""
    values: dict[str, dict[str, None]] = {}
    for job in jobs:
        for override in job:
            key, _, value = override.partition("=")
            values.setdefault(key, {})[value] = None
    return {key: list(found) for key, found in values.items() if len(found) > 1}


def run_child(job: Job, number: int, in_turn: bool) -> None:
    """Run one job of the sweep in a process of its own; a job that fails is told, and the sweep goes on."""
    folder = Path(os.environ[FOLDER_VARIABLE])
    sweep = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    told = {key: sweep[key] for key in ("parent_id", "sweep_id", "jobs", "title", "varying")}
    job = replace(job, sweep={**told, "number": number})
    job.save()
    label = f"run {number}/{sweep['jobs']}: {_label(job.overrides, sweep['varying'])}"
    print(f"▶ {label}", flush=True)
    began = time.monotonic()
    status = "KILLED"
    try:
        command = [sys.executable, "-m", "thawlab.launch", str(job.output_dir)]
        environment = {key: value for key, value in os.environ.items() if key != FOLDER_VARIABLE}
        if in_turn:
            code = run_process(command, environment)
        else:
            with (job.output_dir / "log.txt").open("w") as log:
                code = run_process(command, environment, log.fileno())
        status = "FINISHED" if code == 0 else "KILLED" if code > 128 else "FAILED"
    finally:
        outcome = {"status": status, "label": _label(job.overrides, sweep["varying"]), "number": number}
        outcome["seconds"] = time.monotonic() - began
        (job.output_dir / "outcome.json").write_text(json.dumps(outcome), encoding="utf-8")
        mark = "✓" if status == "FINISHED" else "✗"
        print(f"{mark} {label}: {status}, {outcome['seconds']:.0f} s{_tail(job.output_dir, status)}", flush=True)


def _label(overrides: Sequence[str], keys: Sequence[str]) -> str:
    return " ".join(each for each in overrides if each.partition("=")[0] in keys) or " ".join(overrides)


def _tail(folder: Path, status: str) -> str:
    """The end of a failed job's log, where it did not go to the terminal."""
    log = folder / "log.txt"
    if status == "FINISHED" or not log.is_file():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
    return "\n" + "\n".join(f"    {line}" for line in lines)


def _stop(signum: int, _frame: FrameType | None) -> None:
    stopping.leave_closed_terminal(signum)
    raise stopping.stopped_by(signum)
