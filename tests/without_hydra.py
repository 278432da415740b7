"""Configurations from the files of conf/ and what one types, as Hydra composes them, in milliseconds."""

from typing import Any

import yaml

from thawlab.config.schema import Config
from thawlab.launch import parsing
from thawlab.launch.search_path import conf_dir


def configured(*words: str) -> Config:
    """The typed configuration for `KEY=VALUE` and `GROUP=CHOICE`, the values in YAML."""
    content = _file("config")
    choices = [each for each in content.pop("defaults") if isinstance(each, dict)]
    raw = {key: value for key, value in content.items() if key != "hydra"}
    for group, choice in (pair for each in choices for pair in each.items()):
        if " " not in group and choice:
            raw[group] = _file(f"{group}/{choice}")
    for word in words:
        key, _, text = word.partition("=")
        section, _, name = key.rpartition(".")
        is_choice = (conf_dir() / key / f"{text}.yaml").is_file()
        (raw[section] if section else raw)[name] = _file(f"{key}/{text}") if is_choice else yaml.safe_load(text)
    return parsing.parse(raw)


def _file(name: str) -> dict[str, Any]:
    return yaml.safe_load((conf_dir() / f"{name}.yaml").read_text(encoding="utf-8"))
