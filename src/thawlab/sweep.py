"""A sweep: every job in a process of its own, all below one parent run, with a comparison at the end (`sweep_end.py`).

Hydra decides which jobs there are and, by its launcher, how many run at once; `sweep_jobs.py` runs each of them.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict, read_write

from thawlab import lists, preflight, schema, stopping, sweep_checks
from thawlab.config import Config, ConfigError
from thawlab.continuing import Continued, find, jobs_hash, take_resume
from thawlab.devices import check_devices
from thawlab.job import Job
from thawlab.owners import owned
from thawlab.quoting import literal
from thawlab.sweep_folder import claimed
from thawlab.sweep_jobs import FOLDER_VARIABLE, keep_facts, label


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

    With `resume` the parent run of the sweep to go on with is opened once more, and its folder becomes Hydra's.

    Raises:
        ConfigError: a job's settings cannot be run, the store or the folder cannot be used, or there is no sweep to go
            on with; no job was started.
        NothingLeft: the sweep to go on with is finished.
    """
    overrides = list(config.hydra.overrides.task)
    parameters = config.hydra.sweeper.get("params") or {}
    jobs, resume = take_resume(expand(overrides, {str(key): str(value) for key, value in parameters.items()}))
    configs = check(jobs)
    first = configs[0][0]
    folder = Path(config.hydra.sweep.dir)
    checking = sweep_checks.begin(job[0] for job in configs)
    try:
        from thawlab.tracking.store import open_store  # takes seconds, which a refused sweep need not

        checking.finish()
    finally:
        checking.stop()

    try:
        store = open_store(first.tracking.uri, Path(first.tracking.root))
        past = find(store, Job(first, folder).experiment_name, resume, configs) if resume else None
        if past is not None and past.over:
            raise NothingLeft(past)
        folder = past.folder if past and past.folder else folder
        swept = varying(jobs)
        content: dict[str, Any] = {"title": _title(overrides, swept), "jobs": len(jobs), "varying": list(swept)}
        content |= {"labels": [label(job, list(swept)) for job in jobs], "plan": past.plan if past else {}}
        content |= {"sweep_id": past.sweep_id if past else folder.name}
        content |= {"uri": store.uri, "root": first.tracking.root, "tracking_uri": first.tracking.uri}
        with claimed(folder, known=past is not None):
            parent = _open_parent(store, folder, overrides, configs, swept, content, past)
            try:
                keep_facts(folder, {**content, "parent_id": parent.id})
            except OSError:
                parent.end("FAILED")
                raise
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error
    os.environ |= {FOLDER_VARIABLE: str(folder.resolve()), **owned(os.environ)}
    _use(config, folder.resolve())
    stopping.handle_stops(_stop, stopping.ORDERS)  # between two jobs, or while a parallel launcher is at work
    how = f"; {past.words}" if past else ""
    print(f"sweep of {len(jobs)} runs: {content['title']}{how}", flush=True)


def _title(overrides: Sequence[str], swept: Mapping[str, Sequence[str]]) -> str:
    name = next((each.partition("=")[2] for each in overrides if each.startswith("experiment=")), "sweep")
    return " ".join([name, *(f"{key}={','.join(values)}" for key, values in swept.items())])


def _open_parent(
    store: Any,
    folder: Path,
    overrides: Sequence[str],
    configs: Sequence[Sequence[Config]],
    swept: Mapping[str, Sequence[str]],
    content: Mapping[str, Any],
    past: Continued | None,
) -> Any:
    from thawlab.tracking.past_sweeps import JOBS_TAG
    from thawlab.tracking.sweeps import start_parent, sweep_note

    tags = {"sweep_id": content["sweep_id"], "sweep_dir": str(folder.resolve()), "sweep_jobs": len(configs)}
    tags |= {JOBS_TAG: jobs_hash(configs)}
    if past is None:
        tags["overrides"] = "\n".join(overrides)
    return start_parent(
        store,
        Job(configs[0][0], folder).experiment_name,
        content["title"][:200],
        tags,
        sweep_note(f"python train.py -m {' '.join(overrides)}", len(configs), swept),
        {key: ",".join(values) for key, values in swept.items()},
        past.run_id if past else None,
    )


def _use(config: DictConfig, folder: Path) -> None:
    """Let Hydra put the jobs into the folder; the configuration of each is composed anew, from overrides."""
    with read_write(config), open_dict(config):
        config.hydra.sweep.dir = str(folder).replace("${", "\\${")
        config.hydra.overrides.hydra.append(f"hydra.sweep.dir={literal(str(folder))}")


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


def check(jobs: Sequence[Sequence[str]]) -> list[tuple[Config, ...]]:
    """The typed configuration of every job, or of the heads that it trains together.

    Raises:
        ConfigError: all mistakes of all jobs, each once.
    """
    from hydra import compose

    configs, mistakes = [], []
    for job in jobs:
        try:
            config, heads = lists.parse(schema.plain(compose("config", overrides=list(job))))
            check_devices(config.trainer)
            preflight.check_inputs(config)
            configs.append(heads or (config,))
        except ConfigError as error:
            mistakes += str(error).splitlines()
    if configs:
        try:
            preflight.check_store(configs[0][0])
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


def _stop(signum: int, _frame: FrameType | None) -> None:
    stopping.leave_closed_terminal(signum)
    raise stopping.stopped_by(signum)
