"""Every key that a command line may set, and which of them take text."""

import types
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from thawlab.config.schema import Config, Section
from thawlab.launch import parsing, search_path

# Hydra's own that name folders.
_HYDRA_TEXT = {"hydra.run.dir": frozenset({str}), "hydra.sweep.dir": frozenset({str})}


def known_keys() -> list[str]:
    """Every group and every dotted key that a command line may set."""
    found = [*groups(), *parsing.keys(Config)]
    for model, prefix in _open_sections():
        found += parsing.keys(model, prefix)
    return found


def groups() -> list[str]:
    """What takes the name of a choice."""
    return [*(path.name for path in search_path.conf_dir().iterdir() if path.is_dir()), "experiment"]


def text_keys() -> dict[str, frozenset[type]]:
    """The keys that take text and no number, each with all that it takes: str, and for some bool or NoneType."""
    found = dict(_HYDRA_TEXT)
    for model, prefix in ((Config, ""), *_open_sections()):
        for key, kinds in _kinds(model, prefix):
            if str in kinds <= {str, bool, type(None)}:
                found[key] = frozenset(kinds)
    return found


def _open_sections() -> Iterator[tuple[type[BaseModel], str]]:
    """The settings of every dataset and every strategy."""
    for group, plugins in parsing.OPEN.items():
        for name in plugins.names():
            yield parsing.settings_type(group, name), f"{group}."


def _kinds(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, set[Any]]]:
    for key, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            if nested is not Section:
                yield from _kinds(nested, f"{prefix}{key}.")
        else:
            members = get_args(nested) if get_origin(nested) in (Union, types.UnionType) else (nested,)
            yield prefix + key, set(members)
