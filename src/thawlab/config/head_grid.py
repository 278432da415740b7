"""Lists of settings: linear heads that are trained together, each as a run of its own.

`strategy=linear_probe` takes a list for any of the keys below, and trains by steps then; no more than its head is
trained, and the features that it is trained on are the same for all.
"""

from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter
from typing import Any

from thawlab.config import kinds
from thawlab.config.schema import Config

SOLVER = "strategy.solver"  # always "gradient": heads that are trained together take steps
# What may be a list; of all combinations the last key changes fastest.
KEYS = tuple(setting.key for setting in kinds.settings(Config) if kinds.Mark.PER_HEAD in setting.marks)


def settings(config: Config) -> dict[str, Any]:
    """What a head's own settings are, by their keys."""
    return {key: attrgetter(key)(config) for key in KEYS}


def varying(configs: Iterable[Config]) -> tuple[str, ...]:
    """The keys in which heads differ."""
    rows = [settings(config) for config in configs]
    return tuple(key for key in KEYS if len({row[key] for row in rows}) > 1)


def label(config: Config, keys: Collection[str]) -> str:
    """What a head is called beside others: the settings in which they differ, or all of its own if it is alone."""
    return " ".join(f"{key}={value}" for key, value in settings(config).items() if key in keys or not keys)


def overrides(given: Sequence[str], config: Config, keys: Collection[str]) -> tuple[str, ...]:
    """What one types to train one of the heads alone: each list replaced by the head's own value.

    Without a list the head would be solved for, unless one asks for steps.
    """
    own, found = settings(config), []
    for each in given:
        key = each.lstrip("+").partition("=")[0]
        found.append(f"{key}={own.pop(key)}" if key in own else each)
    solver = "" if any(each.lstrip("+").startswith(f"{SOLVER}=") for each in given) else f"{SOLVER}=gradient"
    return (*found, *(f"{key}={value}" for key, value in own.items() if key in keys), *filter(None, [solver]))
