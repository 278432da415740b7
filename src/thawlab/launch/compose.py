"""From the command line to the configuration of a run, through Hydra."""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from thawlab.config import timm_names
from thawlab.config.job import Job, no_folder, remove_if_empty
from thawlab.config.nearest import nearest
from thawlab.config.schema import ConfigError
from thawlab.launch import head_lists, parsing, search_path, sweep, sweep_jobs, typed_words
from thawlab.launch.known_keys import known_keys
from thawlab.launch.sweep_request import take_resume


def compose(arguments: Sequence[str], program: str) -> Job | None:
    """Let Hydra read the arguments; a sweep is run to its end, one run is left to the caller.

    Returns:
        The one run to start; None if nothing is left to do (help was shown, a sweep is over).

    Raises:
        ConfigError: what was asked for does not exist or makes no sense, said in one message.
    """
    composed: list[tuple[DictConfig, Any]] = []

    def task(config: DictConfig) -> None:
        if sweep.is_running():
            info = HydraConfig.get()
            sweep_jobs.run_child(_job(config, info), int(info.job.num) + 1, sweep_jobs.in_turn(info.launcher))
        else:
            composed.append((config, HydraConfig.get()))  # read later: Hydra would report a mistake in its own way

    _check_here()
    search_path.register()
    entry = hydra.main(version_base="1.3", config_path=str(search_path.conf_dir()), config_name="config")(task)
    readable = typed_words.read(arguments)
    with _arguments([program, *_with_new_keys(readable)]), _one_message(arguments):
        try:
            entry()
        except sweep.NothingLeft as error:
            run_id = error.sweep.run_id
            print(f"the sweep is finished: {run_id}; nothing to go on with; look at it: thawlab compare sweep={run_id}")
    if not composed:
        return None
    config, info = composed[0]
    try:
        return _job(config, info)
    except ConfigError:
        remove_if_empty(Path(info.runtime.output_dir))
        raise


def _check_here() -> None:
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise ConfigError("the folder that this was started in is gone; change to one that exists: cd") from error


def _with_new_keys(arguments: Iterable[str]) -> list[str]:
    """Hydra refuses keys that a file lacks unless `++` stands before them; in this group any key may be new."""
    return [f"++{each}" if re.match(r"optimizer\.options[.=]", each) else each for each in arguments]


def _job(config: DictConfig, info: Any) -> Job:
    raw, overrides = parsing.plain(config), list(info.overrides.task)
    if sweep.is_running():  # which goes on as a whole
        raw = {**raw, "resume": False, "retry": None}
        ((overrides,), _) = take_resume([overrides])
    parsed, variants = head_lists.parse(raw)
    if parsed.retry is not None:
        raise ConfigError(
            f"retry={parsed.retry}: this is for a sweep that goes on, -m … resume=true; use resume=true alone, which "
            "goes on with the latest run of these settings, be it one that failed"
        )
    return Job(parsed, Path(info.runtime.output_dir), tuple(overrides), variants=variants)


@contextmanager
def _arguments(argv: list[str]) -> Iterator[None]:
    """Hydra reads `sys.argv`, and only with this variable set does it leave its exceptions to us."""
    saved, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = argv
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = saved
        if full_error is None:
            os.environ.pop("HYDRA_FULL_ERROR", None)


@contextmanager
def _one_message(arguments: Sequence[str]) -> Iterator[None]:
    """Turn what Hydra says, of one run or of a job of a sweep, into one message with the way out."""
    try:
        try:
            yield
        except sweep.NotStarted as error:
            raise error.reason from error
    except MissingConfigException as error:
        raise ConfigError(_missing_choice(error)) from error
    except ValueError as error:
        if "Config group override" not in str(error):  # such as backbone=42
            raise
        raise ConfigError(f"{' '.join(arguments)}: a group takes the name of a choice; see --help") from error
    except OSError as error:  # Hydra makes the output folder, before anything of ours is called
        if sweep.is_running():
            raise
        raise ConfigError(no_folder(Path(str(error.filename or "outputs")), error)) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_override_mistake(error, arguments)) from error


def _missing_choice(error: MissingConfigException) -> str:
    group, _, name = str(error.missing_cfg_file or "").rpartition("/")
    if not group:
        return str(error)
    choices = list(error.options or [])
    named = {"backbone": timm_names.architectures, "optimizer": timm_names.optimizers}.get(group, list)()
    near = nearest(name, [*choices, *named])
    hint = f"; nearest: {', '.join(near)}" if near else ""
    also = {"backbone": ", or any timm architecture", "optimizer": ", or any timm optimizer"}.get(group, "")
    return f"{group}={name}: no such {group}{hint}; choices: {', '.join(choices) or 'none'}{also}"


def _override_mistake(error: Exception, arguments: Iterable[str]) -> str:
    text = str(error)
    unknown = re.search(r"Could not (?:override|append|delete)[^']*'([^']+)'", text)
    if not unknown:
        return text if not error.__cause__ else f"{text}\n{error.__cause__}"
    key, known = unknown.group(1).lstrip("+~"), known_keys()
    keys = {argument: argument.partition("=")[0].lstrip("+~") for argument in arguments if "=" in argument}
    # Hydra stops at the first one; all that no choice of a group has are told.
    wrong = {argument: name for argument, name in keys.items() if name == key or _is_unknown(name, known)}
    return "\n".join(_key_mistake(argument, name, known) for argument, name in (wrong or {key: key}).items())


def _is_unknown(key: str, known: Sequence[str]) -> bool:
    inside = key.startswith("hydra") or "@" in key or any(key.startswith(f"{each}.") for each in known if "." in each)
    return key not in known and not inside  # optimizer.options.momentum is inside optimizer.options


def _key_mistake(given: str, key: str, known: Sequence[str]) -> str:
    if key in known:
        group, _, _ = key.partition(".")
        return f"{given}: the chosen {group} has no such key; {group}=CHOICE takes another, --cfg job shows its keys"
    near = nearest(key, known) or [each for each in known if each.rpartition(".")[2] == key.rpartition(".")[2]]
    return f"{given}: no such key; " + (
        f"nearest: {', '.join(near)}" if near else "all keys: python train.py --cfg job"
    )
