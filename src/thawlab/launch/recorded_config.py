"""The configuration of a recorded run, with the keys that the version which recorded it did not have."""

from collections.abc import Mapping
from typing import Any

import yaml

from thawlab.config.kinds import settings
from thawlab.config.schema import Config
from thawlab.launch.search_path import conf_dir


def completed(raw: Mapping[str, object]) -> dict[str, object]:
    """The recorded settings and, for each key that they lack, the value that does what was done without it.

    Args:
        raw: plain nested values, as a run keeps them in `config/config.yaml`.
    """
    then = {setting.key: earlier.value for setting in settings(Config) if (earlier := setting.earlier())}
    content = {**_file("config"), **raw}
    for group, section in raw.items():
        if isinstance(section, Mapping):
            defaults = _file(f"{group}/{section.get('name')}")
            content[group] = {key: then.get(f"{group}.{key}", value) for key, value in defaults.items()} | {**section}
    return content


def _file(name: str) -> dict[str, Any]:
    """The values in a file of conf/; none if there is no such file, as for a backbone by timm's name."""
    path = conf_dir() / f"{name}.yaml"
    if not path.is_file():
        return {}
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {key: value for key, value in values.items() if key not in ("defaults", "hydra")}
