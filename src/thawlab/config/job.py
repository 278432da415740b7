"""One run to be done, and what came of it, as files in its output folder: how processes hand a run to each other."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from thawlab.config.kinds import Kind, is_below, settings
from thawlab.config.schema import Config, ConfigError, name_of
from thawlab.system.atomic import write_atomically
from thawlab.system.markdown import plain
from thawlab.system.redaction import redacted


@dataclass(frozen=True)
class Job:
    """A run to be done.

    Attributes:
        config: its typed configuration.
        output_dir: its folder for checkpoints, logs and these files.
        overrides: what the user typed for it, `key=value` each.
        sweep: the sweep it belongs to, if any: `parent_id` (MLflow run), `sweep_id`, `number` (from 1), and where it is
            known `jobs` (how many), `title`, `varying` (the keys in which the jobs differ).
        resume_id: the MLflow run that it continues, if any; `output_dir` is that run's.
        variants: the heads that are trained together, each a run of its own; `config` is that of the first of them.
        rerun_of: the MLflow run that it repeats, if any.
    """

    config: Config
    output_dir: Path
    overrides: tuple[str, ...] = ()
    sweep: Mapping[str, Any] = field(default_factory=dict)
    resume_id: str | None = None
    variants: tuple[Config, ...] = ()
    rerun_of: str | None = None

    @property
    def experiment_name(self) -> str:
        """The MLflow experiment: as set, else the dataset's name."""
        return self.config.experiment_name or name_of(self.config.dataset)

    def save(self) -> Path:
        """Write the job to `job.json` in its folder."""
        path = self.output_dir / "job.json"
        content = {"config": values(self.config), "overrides": self.overrides, "sweep": dict(self.sweep)}
        content |= {"resume_id": self.resume_id, "variants": [values(each) for each in self.variants]}
        content |= {"rerun_of": self.rerun_of}
        write_atomically(path, json.dumps(content, indent=2), private=True)  # an address may hold a password
        return path

    @property
    def short(self) -> str:
        """The overrides in one line, without where and how to record: what this run is called in tables."""
        return " ".join([*self._varying, *self._common]) or "defaults"

    @property
    def run_name(self) -> str:
        """What MLflow's page calls it: as `short`, with the seed where a column that is cut still shows it."""
        kept = (*self._varying, *self._common)
        seed = [] if any(_key(each) == "seed" for each in kept) else [f"seed={self.config.seed}"]
        words = [*self._varying, *seed, *self._common] if self._varying else [*(kept or ["defaults"]), *seed]
        prefix = [f"rerun of {self.rerun_of[:8]}:"] if self.rerun_of else []
        return " ".join([*prefix, *words])

    @property
    def relations(self) -> list[str]:
        """How the run belongs to others, in Markdown."""
        lines = []
        if self.sweep:
            place = f"run {self.sweep['number']}" + (f" of {self.sweep['jobs']}" if "jobs" in self.sweep else "")
            title = f", {plain(self.sweep['title'])}" if "title" in self.sweep else ""
            lines.append(f"**sweep**: {place} below the parent run `{self.sweep['parent_id']}`{title}")
        if self.rerun_of:
            lines.append(f"**rerun**: repeats the run `{self.rerun_of}`")
        return lines

    @property
    def _varying(self) -> list[str]:
        return [each for each in self._told if _key(each) in self.sweep.get("varying", ())]

    @property
    def _common(self) -> list[str]:
        return [each for each in self._told if _key(each) not in self.sweep.get("varying", ())]

    @property
    def _told(self) -> list[str]:
        return [each for each in self.overrides if not _key(each).startswith(("tracking", "resume", "hydra"))]


def _key(override: str) -> str:
    return override.lstrip("+").partition("=")[0]


def values(config: BaseModel) -> dict[str, Any]:
    """The configuration as plain nested values."""
    # Field by field, since pydantic would write a dataset's or a strategy's settings as the empty section they extend.
    plain = {name: getattr(config, name) for name in type(config).model_fields}
    return {name: values(value) if isinstance(value, BaseModel) else value for name, value in plain.items()}


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values with dotted keys."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def config_hash(config: Config) -> str:
    """Twelve hexadecimal digits that agree for runs with the same settings, wherever and however fast they ran."""
    known = list(settings(config))
    places = [setting.key for setting in known if setting.kind is Kind.PLACE]
    unhashed = {each.key: then.value for each in known if (then := each.earlier()) and not then.hashed}
    kept = {
        key: redacted(value) if isinstance(value, str) else value  # a digest would give a password away
        for key, value in flat(values(config)).items()
        if not is_below(key, places) and not (key in unhashed and value == unhashed[key])
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def make_folder(folder: Path) -> None:
    """Make an output folder.

    Raises:
        ConfigError: it cannot be made; the message has the setting for another.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(no_folder(folder, error)) from error


def no_folder(folder: Path, error: OSError) -> str:
    """What is said where an output folder cannot be made."""
    in_the_way = next((each for each in (folder, *folder.parents) if each.is_file()), None)
    reason = f"{in_the_way} is a file" if in_the_way else (error.strerror or str(error)).lower()
    return (
        f"{folder}: this folder for checkpoints and logs cannot be made ({reason}); start in a folder that you can "
        "write to, or use hydra.run.dir=FOLDER, with -m hydra.sweep.dir=FOLDER"
    )


def remove_if_empty(folder: Path) -> None:
    """Remove an output folder without files: Hydra makes it before it is known whether a run starts."""
    with suppress(OSError):  # it holds files, or is not there
        folder.rmdir()
