"""Which interrupted run to go on with, found before anything is built."""

from dataclasses import replace
from pathlib import Path

import yaml

from thawlab.config.job import Job, config_hash, flat, values
from thawlab.config.kinds import Kind, is_below, settings
from thawlab.config.schema import Config, ConfigError
from thawlab.launch import parsing
from thawlab.launch.folder_lock import at_work
from thawlab.launch.recorded_config import completed
from thawlab.launch.run_folder import belongs_to, is_used
from thawlab.tracking.history import find_interrupted, read_run
from thawlab.tracking.processes import PROCESS_TAG, is_alive
from thawlab.tracking.run_record import RunRecord
from thawlab.tracking.store import open_store


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
    overrides = tuple(past.tags.get("overrides", "").split("\n")) if past.tags.get("overrides") else ()
    return replace(
        job, config=_resumed(job, earlier), overrides=overrides, output_dir=_output_dir(past, job), resume_id=run_id
    )


def _resumed(job: Job, earlier: Config) -> Config:
    """The run's settings, with those given now that may be others for the rest of it.

    A trainer chosen anew, such as `trainer=cpu`, brings its settings of how and where it computes; what decides the
    result stays unless its own key was given.

    Raises:
        ConfigError: they do not go together with the others.
    """
    content, now = values(earlier), values(job.config)
    free, given = _free(job), {_key(override) for override in job.overrides}
    for setting in settings(earlier):
        section, _, name = setting.key.partition(".")
        chosen = section in given and setting.kind is not Kind.RESULT
        if name and is_below(setting.key, free) and (setting.key in given or chosen):
            content[section][name] = now[section][name]
    return parsing.parse({**content, "tracking": now["tracking"]})


def _check_same(job: Job, earlier: Config, run_id: str) -> None:
    free = ["hydra", *_free(job)]
    given = [each for each in job.overrides if not is_below(_key(each), free)]
    if not given or config_hash(job.config) == config_hash(earlier):
        return
    now, then = flat(values(job.config)), flat(values(earlier))
    changed = [
        f"{key}={now.get(key)} (it has {then.get(key)})"
        for key in now
        if now[key] != then.get(key) and not is_below(key, free)
    ]
    if not changed:  # nothing but what may be set anew
        return
    raise ConfigError(
        f"resume={run_id}: a run goes on with the settings it began with, yet {', '.join(changed)}; "
        "leave these out, or start a new run without resume"
    )


def _free(job: Job) -> list[str]:
    """What may be set anew for the rest of a run: where it is recorded, and how its steps are computed."""
    return ["trainer", *(each.key for each in settings(job.config) if each.kind in (Kind.PLACE, Kind.COMPUTING))]


def _key(override: str) -> str:
    return override.lstrip("+").partition("=")[0]


def _settings(past: RunRecord, job: Job) -> Config:
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


def _output_dir(past: RunRecord, job: Job) -> Path:
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
