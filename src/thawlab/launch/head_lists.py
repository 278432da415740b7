"""Lists on the command line: from one configuration with lists to those of all heads that are trained together."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import product
from math import prod
from typing import Any

from thawlab.config.head_grid import KEYS, SOLVER
from thawlab.config.schema import Config, ConfigError
from thawlab.launch import parsing

MOST_HEADS = 1000
_STRATEGY = "linear_probe"


def parse(raw: Mapping[str, object]) -> tuple[Config, tuple[Config, ...]]:
    """The typed configuration of one run, or of the first head, and those of all heads: none without a list.

    Args:
        raw: plain nested values, as Hydra composed them.

    Raises:
        ConfigError: one line for each mistake, as `parsing.parse` words them.
    """
    lists = _lists(raw)
    if not lists:
        return parsing.parse(raw), ()
    configs, mistakes = [], []
    for values in expand(raw):
        try:
            configs.append(parsing.parse(values))
        except ConfigError as error:
            mistakes += str(error).splitlines()
    if not mistakes:
        mistakes += _conflicts(configs[0], lists)
    if mistakes:
        raise ConfigError("\n".join(dict.fromkeys(mistakes)))
    return configs[0], tuple(configs)


def expand(raw: Mapping[str, object]) -> list[dict[str, object]]:
    """All combinations of the lists, each as the values of one run; the values as they are if there is no list.

    Raises:
        ConfigError: a list is empty or names a value twice, there are too many heads, or the strategy takes no lists.
    """
    lists = _lists(raw)
    mistakes = list(_mistakes(raw, lists))
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    made = []
    for chosen in product(*lists.values()):
        values = deepcopy(dict(raw))
        if lists and _at(raw, SOLVER) == "auto":
            _put(values, SOLVER, "gradient")  # what the lists name plays a part nowhere else
        for key, value in zip(lists, chosen, strict=True):
            _put(values, key, value)
        made.append(values)
    return made


def _lists(raw: Mapping[str, object]) -> dict[str, list[object]]:
    found = {key: _at(raw, key) for key in KEYS}
    return {key: value for key, value in found.items() if isinstance(value, list)}


def _mistakes(raw: Mapping[str, object], lists: Mapping[str, list[object]]) -> Iterator[str]:
    name = _at(raw, "strategy.name")
    for key, values in lists.items():
        if name != _STRATEGY:
            yield (
                f"{_typed(key, values)}: lists are for strategy={_STRATEGY}, whose heads are trained together; with "
                f"strategy={name} use a sweep: -m {key}={','.join(map(str, values)) or '…'}"
            )
        elif not values:
            yield f"{key}=[]: the list is empty; give at least one value"
        elif twice := [value for place, value in enumerate(values) if value in values[:place]]:
            yield f"{_typed(key, values)}: {twice[0]} is there twice; name each value once"
    heads = prod(map(len, lists.values()))
    if heads > MOST_HEADS:
        sizes = " × ".join(f"{len(values)} ({key})" for key, values in lists.items())
        yield f"{sizes} = {heads} heads: at most {MOST_HEADS} are trained together; shorten a list"


def _conflicts(config: Config, lists: Mapping[str, list[object]]) -> Iterator[str]:
    """What heads that are trained together cannot have."""
    key, values = next(iter(lists.items()))
    given = _typed(key, values)
    if getattr(config.strategy, "solver", None) == "lbfgs":
        yield (
            f"{given}: with strategy.solver=lbfgs nothing but C matters to the head; leave the list out and give the "
            "values of C as strategy.strengths=[0.1,1.0]"
        )
    augment, trainer = config.augment, config.trainer
    for refused, value, off in (
        ("augment.mixup", augment.mixup, "0"),
        ("augment.cutmix", augment.cutmix, "0"),
        ("trainer.ema", trainer.ema, "null"),
        ("trainer.patience", trainer.patience, "null"),
        ("backbone.drop_rate", config.backbone.drop_rate, "0"),
        ("resume", config.resume, "false"),
    ):
        if value:
            yield (
                f"{refused}={str(value).lower()}: heads that are trained together ({given}) cannot have it; use "
                f"{refused}={off}, or a sweep: -m {key}={','.join(map(str, values))}"
            )
    if trainer.name == "ddp":
        yield (
            f"trainer=ddp: heads that are trained together ({given}) share one process; use trainer=auto, "
            f"or a sweep: -m {key}={','.join(map(str, values))}"
        )


def _typed(key: str, values: Sequence[object]) -> str:
    return f"{key}=[{','.join(map(str, values))}]"


def _at(raw: object, key: str) -> object:
    for part in key.split("."):
        raw = raw.get(part) if isinstance(raw, Mapping) else None
    return raw


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for each in sections:
        values = values[each]
    values[last] = value
