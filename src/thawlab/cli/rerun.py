"""`thawlab rerun`: a run repeated from what MLflow holds of it, and whether the result agrees."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from thawlab.config.job import Job, config_hash, flat, values
from thawlab.config.kinds import Kind, is_below, settings
from thawlab.config.schema import Config, ConfigError
from thawlab.launch import parsing, process
from thawlab.launch.known_keys import text_keys
from thawlab.launch.recorded_config import completed
from thawlab.system.surroundings import shown

if TYPE_CHECKING:
    from thawlab.tracking.prediction_files import PredictionFile
    from thawlab.tracking.store import Store

_USAGE = """\
usage: thawlab rerun RUN_ID [root=mlruns] [uri=…] [KEY=VALUE …]

Trains a finished run once more, as a new run in the same experiment, from what MLflow holds of it: its settings, its
seed, the digests of its images and weights. Then compares the two, image by image.
  root=FOLDER, uri=ADDRESS   where the run is, as tracking.root and tracking.uri of train.py
  KEY=VALUE                  a setting of this machine, such as dataset.root=photos or trainer.accelerator=cpu
Exit code: 0 the result agrees, 1 it differs, 2 the run cannot be repeated here.
"""
_PLACES = ("root", "uri")
_SHOWN_CHANGES = 12


def rerun(arguments: Sequence[str]) -> int:
    """Repeat the run named first; return the exit code."""
    if not arguments or arguments[0] in ("--help", "-h") or "=" in arguments[0]:
        print(_USAGE, end="", file=sys.stdout if arguments[:1] in (["--help"], ["-h"]) else sys.stderr)
        return 0 if arguments[:1] in (["--help"], ["-h"]) else 2
    try:
        return _rerun(arguments[0], _given(arguments[1:]))
    except ConfigError as error:
        return process.refuse(error)
    except ValueError as error:
        return process.refuse(ConfigError(str(error)))


def _given(arguments: Sequence[str]) -> dict[str, str]:
    wrong = [each for each in arguments if "=" not in each or each.startswith(("-", "=")) or each.endswith("=")]
    if wrong:
        raise ConfigError(f"{wrong[0]}: use KEY=VALUE after the run's id, such as root=mlruns or dataset.root=photos")
    return dict(each.lstrip("+").split("=", 1) for each in arguments)


def _rerun(run_id: str, given: Mapping[str, str]) -> int:
    """The story: read the run, make its job, warn, train, compare."""
    from thawlab import console
    from thawlab.tracking import past_run
    from thawlab.tracking.history import read_run
    from thawlab.tracking.store import open_store

    root, uri = given.get("root", "mlruns"), given.get("uri") or None
    store = open_store(uri, Path(root))
    if store.database is not None and not store.database.is_file():
        raise ConfigError(f"root={root}: there is no store {store.database.name} there; use root=FOLDER or uri=ADDRESS")
    past = read_run(store, run_id, "rerun")
    text = _settings(past, store)
    then = _predictions(store, run_id)
    earlier = _parse(run_id, yaml.safe_load(text), {})
    config = _parse(run_id, yaml.safe_load(text), {key: value for key, value in given.items() if key not in _PLACES})
    update = {"resume": False, "experiment_name": past_run.experiment_name(store, past.experiment_id)}
    update["tracking"] = config.tracking.model_copy(update={"root": root, "uri": uri})
    job = _job(past, config.model_copy(update=update), given)
    for note in (*_notes(past, earlier, job.config), *_environment(past_run.environment_changes(store, run_id))):
        console.show_note(note)
    code = process.start(job)
    return code or _compare(store, past, then, job.output_dir)


def _settings(past: Any, store: "Store") -> str:
    """The text of the run's configuration, if it can be repeated at all.

    Raises:
        ConfigError: it is a sweep's parent, did not finish, or kept no settings.
    """
    from thawlab.tracking.past_run import children

    key = f"rerun={past.run_id}"
    if past.config is None and "sweep_dir" in past.tags:
        below = children(store, past.experiment_id, past.run_id)
        some = ", ".join(below[:8]) + (f" and {len(below) - 8} more" if len(below) > 8 else "")
        raise ConfigError(
            f"{key}: this is the parent of a sweep, which trained nothing itself; use one of its runs: "
            f"{some or 'it has none'}; or the whole once more, by the command in its description"
        )
    if past.status != "FINISHED":
        raise ConfigError(
            f"{key}: this run is {past.status}, so there is no result to compare with; go on with it by train.py "
            f"resume={past.run_id}, or use one that FINISHED"
        )
    if past.config is None:
        raise ConfigError(
            f"{key}: its artifact config/config.yaml is missing, so its settings are not known; start a new run with "
            "train.py and the settings that its parameters name"
        )
    return past.config


def _predictions(store: "Store", run_id: str) -> "PredictionFile":
    """What the run said of its test images.

    Raises:
        ConfigError: its file is gone or damaged.
    """
    from thawlab.tracking.past_run import prediction_file
    from thawlab.tracking.prediction_files import PREDICTIONS, read_predictions

    path = prediction_file(store, run_id)
    try:
        if path is None:
            raise ValueError(f"its {PREDICTIONS} is not in the store any more")
        return read_predictions(path)
    except ValueError as error:
        raise ConfigError(
            f"rerun={run_id}: {error}, so there is no result to compare with; start a new run with train.py and the "
            "settings that its parameters name"
        ) from error


def _parse(run_id: str, raw: dict[str, Any], changes: Mapping[str, str]) -> Config:
    try:
        typed = {key: value for key, value in changes.items() if not _is_text(key, value)}
        changed = OmegaConf.merge(
            OmegaConf.create(raw), OmegaConf.from_dotlist([f"{key}={value}" for key, value in typed.items()])
        )
        for key in changes.keys() - typed.keys():  # a folder called 2024 is no number
            OmegaConf.update(changed, key, changes[key])
        content = OmegaConf.to_container(changed)
        if not isinstance(content, dict):  # only what is damaged, or made by hand, is
            raise ConfigError("its artifact config/config.yaml holds no settings")
        return parsing.parse(completed({str(key): value for key, value in content.items()}))
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{' '.join(f'{k}={v}' for k, v in changes.items())}: {reason}; use KEY=VALUE") from error
    except ConfigError as error:
        if changes:
            raise ConfigError(f"{error}\nof a run that is repeated a group's keys are set, not the group") from error
        raise ConfigError(
            f"rerun={run_id}: this version of thawlab does not take the settings of that run; use the commit that its "
            f"tag git_commit names\n{error}"
        ) from error


def _is_text(key: str, value: str) -> bool:
    kinds = text_keys().get(key, frozenset())
    word = {"null": type(None), "true": bool, "false": bool}.get(value.lower(), str)
    return bool(kinds) and (word is str or word not in kinds)


def _job(past: Any, config: Config, given: Mapping[str, str]) -> Job:
    changed = [f"{key}={value}" for key, value in given.items() if key not in _PLACES]
    before = past.tags.get("overrides", "")
    kept = [each for each in before.split("\n") if each and each.lstrip("+").partition("=")[0] not in given]
    folder = Path.cwd() / "outputs" / f"rerun_{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
    return Job(config, folder, (*kept, *changed), rerun_of=past.run_id)


def _notes(past: Any, earlier: Config, config: Config) -> list[str]:
    """What the user should know before anything is trained."""
    notes = []
    if config_hash(config) != config_hash(earlier):
        now, then = flat(values(config)), flat(values(earlier))
        places = [setting.key for setting in settings(config) if setting.kind is Kind.PLACE]
        changed = [key for key in now if now[key] != then.get(key) and not is_below(key, places)]
        told = [f"{key}={now[key]} (was {then.get(key)})" for key in changed]
        notes.append(f"not the same settings, so that the result may differ: {', '.join(told)}")
    if int(past.tags.get("heads", 1)) > 1:
        notes.append(
            f"that run was one of {past.tags['heads']} heads that were trained together; alone it agrees to rounding"
        )
    return notes


def _environment(changes: Sequence[str]) -> list[str]:
    if not changes:
        return []
    told = "; ".join(changes[:_SHOWN_CHANGES])
    more = f"; and {len(changes) - _SHOWN_CHANGES} more" if len(changes) > _SHOWN_CHANGES else ""
    return [f"since that run has changed: {told}{more}"]


def _compare(store: "Store", past: Any, then: "PredictionFile", folder: Path) -> int:
    """Show both results and the verdict, and keep it with the new run."""
    from thawlab import console
    from thawlab.compare.agreement import table, verdict
    from thawlab.tracking.history import read_run
    from thawlab.tracking.prediction_files import PREDICTIONS, read_predictions
    from thawlab.tracking.run import Run

    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    found = verdict(then, read_predictions(folder / PREDICTIONS))
    now = read_run(store, result["run_id"], "rerun")
    console.show_rerun(table(past.metrics, result["metrics"]))
    where = past.tags.get("device"), now.tags.get("device")
    if None not in where and where[0] != where[1]:
        console.show_note(f"it was trained on {where[0]}, and now on {where[1]}, which round differently")
    run = Run(store, now.run_id, now.experiment_id)
    run.set_tags({"rerun_agrees": found.agrees, "rerun_verdict": found.sentence})
    print(f"{shown(found.sentence)}\nrun {past.run_id} then, run {now.run_id} now", flush=True)
    return 0 if found.agrees != "no" else 1
