"""What the user asks of `thawlab compare`, read from its `key=value` arguments."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from thawlab.config.nearest import nearest
from thawlab.config.schema import ConfigError

_RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Request:
    """What is to be compared.

    Attributes:
        sweep: `latest`, a parent run's id, or the name of a sweep's folder; None if runs are chosen in another way.
        experiment: name of an experiment, all of whose runs are meant.
        runs: their ids.
        filter: in MLflow's words; restricts what the others choose, or all runs of the store.
        by: the settings that tell configurations apart; empty: those that vary.
        metric: what is compared.
        baseline: setting → value of the configuration that the others are compared with.
        baseline_run: the id of a run of that configuration, if it was named so.
        root: folder of the local store.
        uri: address of another store.
        out: folder of the report; None leaves it to the command.
        log: whether the report is kept with the sweep in the store; unless given, only that of the whole sweep,
            compared as it is by itself at the end, so that looking around does not change what the sweep says.
    """

    sweep: str | None = None
    experiment: str | None = None
    runs: tuple[str, ...] = ()
    filter: str | None = None
    by: tuple[str, ...] = ()
    metric: str = "test/acc"
    baseline: Mapping[str, str] = field(default_factory=dict)
    baseline_run: str | None = None
    root: str = "mlruns"
    uri: str | None = None
    out: str | None = None
    log: bool = True


def parse(arguments: Sequence[str]) -> Request:
    """Read the arguments.

    Raises:
        ConfigError: some cannot be read; the message has a line for each mistake.
    """
    given: dict[str, str] = {}
    mistakes = list(_split(arguments, given))
    values: dict[str, Any] = {}
    for key, text in given.items():
        try:
            values |= _READERS[key](key, text)
        except ConfigError as error:
            mistakes.append(str(error))
    mistakes += _conflicts(given)
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    if {"filter", "by", "metric", "baseline"} & given.keys():
        values.setdefault("log", False)
    if not {"sweep", "experiment", "runs", "filter"} & given.keys():
        values["sweep"] = "latest"
    return Request(**values)


def _split(arguments: Sequence[str], given: dict[str, str]) -> Iterator[str]:
    """Fill `given`; yields mistakes."""
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            example = f"{key}=…" if key in _READERS else "sweep=latest"
            yield f"{argument}: expected key=value, for instance {example}"
        elif key not in _READERS:
            near = nearest(key, _READERS, 1)
            hint = f"did you mean {near[0]}={value}? " if near else ""
            yield f"{argument}: there is no setting {key}; {hint}there are {', '.join(_READERS)}"
        elif key in given:
            yield f"{argument}: {key} was given twice; leave out {key}={given[key]} or {argument}"
        else:
            given[key] = value.strip()


def _conflicts(given: Mapping[str, str]) -> list[str]:
    found = []
    if "root" in given and given.get("uri", "null") not in ("", "null"):
        found.append(f"root={given['root']} uri={given['uri']}: each of these names a store; use one")
    chosen = [f"{key}={given[key]}" for key in ("sweep", "experiment", "runs") if key in given]
    if len(chosen) > 1:
        own = "each of these chooses the runs on its own"
        found.append(f"{' '.join(chosen)}: {own}; use one, and filter=… to restrict it")
    return found


def _text(key: str, text: str) -> dict[str, object]:
    if not text:
        raise ConfigError(f"{key}=: nothing was given; give a value or leave {key} out")
    return {key: text}


def _optional(key: str, text: str) -> dict[str, object]:
    return {key: None if text in ("", "null") else text}


def _ids(key: str, text: str) -> dict[str, object]:
    return {key: _listed(key, text, "[ID,ID]")}


def _names(key: str, text: str) -> dict[str, object]:
    names = _listed(key, text, "[freeze,backbone.name]")
    if odd := [each for each in names if not re.fullmatch(r"[\w./-]+", each)]:
        raise ConfigError(f"{key}={text}: {odd[0]!r} is no setting's name; use {key}=[freeze,backbone.name]")
    if "seed" in names:
        raise ConfigError(f"{key}={text}: runs that differ in their seed are what is averaged; leave seed out")
    return {key: names}


def _listed(key: str, text: str, example: str) -> tuple[str, ...]:
    """`[a,b]`, `[a, "b"]`, `a,b` or `a`."""
    inner = text.removeprefix("[").removesuffix("]")
    items = [each.strip().strip("'\"") for each in inner.split(",")]
    if text.startswith("[") != text.endswith("]") or set("[]") & set(inner) or not all(items):
        raise ConfigError(f"{key}={text}: expected a list; write {key}={example}")
    if twice := sorted({each for each in items if items.count(each) > 1}):
        raise ConfigError(f"{key}={text}: {', '.join(twice)} stands there twice; name each once")
    return tuple(items)


def _baseline(key: str, text: str) -> dict[str, object]:
    if _RUN_ID.fullmatch(text):
        return {"baseline_run": text}
    settings: dict[str, str] = {}
    for part in _parts(text.removeprefix("[").removesuffix("]")):
        name, equals, value = (each.strip() for each in part.partition("="))
        if not (name and equals and value) or name in settings:
            raise ConfigError(
                f"{key}={text}: expected settings of one configuration or a run's id; write {key}=freeze=0, "
                f"{key}=freeze=0,optimizer.lr=0.01 or {key}=RUN_ID"
            )
        settings[name] = value
    return {"baseline": settings}


def _parts(text: str) -> list[str]:
    """Split at the commas and blanks before the next `name=`: a value may hold commas itself."""
    return re.split(r"[,\s]+(?=[\w./-]+=)", text.strip())


def _switch(key: str, text: str) -> dict[str, object]:
    if text.lower() not in ("true", "false"):
        raise ConfigError(f"{key}={text}: expected true or false; use {key}=true or {key}=false")
    return {key: text.lower() == "true"}


_READERS: Mapping[str, Callable[[str, str], dict[str, object]]] = {
    "sweep": _text,
    "experiment": _text,
    "runs": _ids,
    "filter": _text,
    "by": _names,
    "metric": _text,
    "baseline": _baseline,
    "root": _text,
    "uri": _optional,
    "out": _text,
    "log": _switch,
}
