"""Which interrupted run to go on with, found before anything is built."""

from dataclasses import replace
from pathlib import Path

import yaml

from thawlab.config.job import Job, config_hash, flat, values
from thawlab.config.schema import Config, ConfigError, Trainer
from thawlab.launch import parsing
from thawlab.launch.folder_lock import at_work
from thawlab.launch.recorded_config import completed
from thawlab.launch.run_folder import belongs_to, is_used
from thawlab.tracking.history import PastRun, find_interrupted, read_run
from thawlab.tracking.processes import PROCESS_TAG, is_alive
from thawlab.tracking.store import open_store

# Keys of the trainer that decide the result: they stay as they were unless they are given anew.
_DECIDING = ("select", "min_steps", "accumulate", "clip", "ema", "patience")
# What may be set anew for the rest of a run: where it is recorded and computed.
_FREE = ("resume", "tracking", "trainer", "experiment_name", "hydra")


def resolve(job: Job) -> Job:
    """The job that continues the run named by `resume`: its settings, its output folder, its id.

    Raises:
        ConfigError: there is no such run, it is over, its files are gone, or other settings were given.
    """
    config = job.config
    try:
        store = open_store(config.tracking.uri, Path(config.tracking.root))
        if config.resume is True:
            run_id = find_interrupted(store, job.experiment_name, config_hash(config))
            if run_id is None:
                raise ConfigError(
                    f"resume=true: experiment {job.experiment_name!r} has no interrupted run with these settings; "
                    "give the settings it was started with, or its id as resume=ID"
                )
        else:
            run_id = str(config.resume)
        past = read_run(store, run_id)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if past.status == "FINISHED":
        raise ConfigError(f"resume={run_id}: this run is finished; start a new one without resume")
    process = past.tags.get(PROCESS_TAG, "")
    if past.status == "RUNNING" and is_alive(process):
        raise ConfigError(f"resume={run_id}: {at_work(process)} is still at work on this run; wait for it, or end it")
    earlier = _settings(past, job)
    _check_same(job, earlier, run_id)
    kept = earlier.model_copy(update={"trainer": _trainer(job, earlier), "tracking": config.tracking})
    overrides = tuple(past.tags.get("overrides", "").split("\n")) if past.tags.get("overrides") else ()
    return replace(job, config=kept, overrides=overrides, output_dir=_output_dir(past, job), resume_id=run_id)


def _trainer(job: Job, earlier: Config) -> Trainer:
    """How the rest is computed: as given now, but what decides the result stays unless its key was typed."""
    typed = {override.lstrip("+").partition("=")[0] for override in job.overrides}
    if not any(key.partition(".")[0] == "trainer" for key in typed):
        return earlier.trainer
    kept = {key: getattr(earlier.trainer, key) for key in _DECIDING if f"trainer.{key}" not in typed}
    return job.config.trainer.model_copy(update=kept)


def _check_same(job: Job, earlier: Config, run_id: str) -> None:
    given = [each for each in job.overrides if not each.lstrip("+").startswith(_FREE)]
    if not given or config_hash(job.config) == config_hash(earlier):
        return
    now, then = flat(values(job.config)), flat(values(earlier))
    changed = [
        f"{key}={now.get(key)} (it has {then.get(key)})"
        for key in now
        if now[key] != then.get(key) and not key.startswith(_FREE)
    ]
    if not changed:  # nothing but what may be set anew
        return
    raise ConfigError(
        f"resume={run_id}: a run goes on with the settings it began with, yet {', '.join(changed)}; "
        "leave these out, or start a new run without resume"
    )


def _settings(past: PastRun, job: Job) -> Config:
    """What the run was started with, as it kept it; as it was given again, where that is lost."""
    key = f"resume={past.run_id}"
    try:
        raw = yaml.safe_load(past.config or "")
    except yaml.YAMLError:
        raw = None
    try:
        if isinstance(raw, dict):
            return parsing.parse(completed(raw))
    except ConfigError as error:
        if job.config.resume is not True:
            raise ConfigError(
                f"{key}: this version of thawlab does not take the settings that this run kept; go on with the commit "
                f"that its tag git_commit names, or start a new run\n{error}"
            ) from error
    if job.config.resume is True:  # it was found by a hash of these settings
        return job.config.model_copy(update={"resume": False})
    why = "ended before it kept its settings" if past.config is None else "kept settings that are damaged"
    raise ConfigError(
        f"{key}: this run {why}; give the settings that it was started with and resume=true, or start a new run"
    )


def _output_dir(past: PastRun, job: Job) -> Path:
    """Where the run's files are: where they were, or where the user says that they are now."""
    recorded = Path(past.tags.get("output_dir", ""))
    for folder in (recorded, job.output_dir):
        if belongs_to(folder, past.run_id):
            return folder
    if past.config is None and not is_used(job.output_dir):  # it was ended before it wrote anything
        return job.output_dir
    why = "is not there" if not recorded.is_dir() else "is not its folder (no file run_id with its id lies in it)"
    raise ConfigError(
        f"resume={past.run_id}: its checkpoints were in {recorded}, which {why}; if they were moved, name their "
        "place by hydra.run.dir=FOLDER, else start a new run"
    )
