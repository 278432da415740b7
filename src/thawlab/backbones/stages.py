"""The stages ruler: a backbone's parameters as a stem and stages 1…K in forward order, on every architecture of timm.

`freeze=k` and `transfer=k` are read off this ruler: both mean the stem and stages 1…k. What a stage is depends on the
family (see `stage_rules`): a residual stage of a ResNet, a block of a ViT, a convolution block of a VGG. In a forward
pass every parameter of a stage is first used after all those of the stages before it, so that a freeze depth always
means a leading part of the network.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from difflib import get_close_matches
from math import inf
from typing import NamedTuple

from torch import nn

from thawlab.backbones.stage_patterns import Rules, stage_rules

# Classifiers that `get_classifier()` leaves out: VOLO's, on patch tokens, and Inception-v3's, with aux_logits=True.
_AUXILIARY_HEADS = ("aux_head", "AuxLogits.fc")

_NO_HEAD = "it has no classifier; use an architecture that classifies images, built with num_classes of 1 or more"
_NO_STAGES = "nothing tells its stages apart; use an architecture of timm's, or give this one a `group_matcher`"

# timm's mark, as the last of a key, for what joins the stage before it: a final norm, for instance.
_JOINS = 99999


@dataclass(frozen=True)
class Stage:
    """A coarse group of layers, the unit of freezing.

    Attributes:
        name: "stem", or the path of the stage's module, as users type it: "layer1", "blocks.3". Of several modules the
            one with the most parameter tensors names the stage, the last of equals.
        parameters: Names as in `named_parameters()`, in that order.
    """

    name: str
    parameters: tuple[str, ...]


_Key = tuple[float | str, ...]


class _Place(NamedTuple):
    key: _Key  # sorts the stages: (group, numbers captured from the name …, suffix …)
    path: str  # the module path that the rule matched


def stages(model: nn.Module) -> list[Stage]:
    """Split a timm model, built with a classifier, into its stem (first) and stages 1…K in forward order.

    Every parameter is in exactly one stage or in the head. What lies between the last stage and the head (final norm,
    last convolution, attention pooling) belongs to stage K. A VGG has no stem: its first entry has no parameters.

    Raises:
        ValueError: The model has no classifier, or nothing says how its layers are grouped.
    """
    rules = stage_rules(model)
    head = set(head_parameters(model))
    places = {name: _place(name, rules or {}) for name, _ in model.named_parameters() if name not in head}
    index_of = _stage_indices({place.key for place in places.values()})
    if not any(index_of.values()):
        raise ValueError(f"backbone={_name(model)}: {_NO_STAGES}")

    groups: list[list[str]] = [[] for _ in range(max(index_of.values()) + 1)]
    paths: list[list[str]] = [[] for _ in groups]
    for name, (key, path) in places.items():
        groups[index_of[key]].append(name)
        if not _joins(key):
            paths[index_of[key]].append(path)
    names = ["stem", *(_most_common(stage_paths) for stage_paths in paths[1:])]
    return [Stage(name, tuple(parameters)) for name, parameters in zip(names, groups, strict=True)]


def head_parameters(model: nn.Module) -> tuple[str, ...]:
    """Names of the classifier's parameters: of all classifiers, where the model has several.

    Raises:
        ValueError: The model has no classifier.
    """
    get_classifier = getattr(model, "get_classifier", None)
    classifier = get_classifier() if get_classifier else ()
    classifiers = list(classifier) if isinstance(classifier, tuple) else [classifier]
    classifiers += [module for path, module in model.named_modules() if path in _AUXILIARY_HEADS]
    ids = {id(parameter) for module in classifiers for parameter in module.parameters()}
    if not ids:
        raise ValueError(f"backbone={_name(model)}: {_NO_HEAD}")
    return tuple(name for name, parameter in model.named_parameters() if id(parameter) in ids)


def depth_to_count(freeze: int | float | str, stages: Sequence[Stage], key: str = "freeze") -> int:
    """How many leading entries of `stages` a freeze depth covers, the stem being one: 0 to K + 1.

    Args:
        freeze: 0 or "none"; k for the stem and stages 1…k; K or "all"; "stem"; the name of the last stage covered; or,
            as a float in [0, 1], a share of the K stages, halves rounded up.
        stages: As `stages(model)` gives them.
        key: The setting's name in messages: "freeze" or "transfer".

    Raises:
        ValueError: No such depth or stage in this backbone.
    """
    last = len(stages) - 1
    names = [stage.name for stage in stages]
    depth: int | None = None
    if isinstance(freeze, str):
        if freeze == "stem" and not stages[0].parameters:
            raise ValueError(f"{key}=stem: this backbone has no stem; use 1 for its first stage, {names[1]}")
        if freeze in names:
            return names.index(freeze) + 1
        depth = {"none": 0, "all": last}.get(freeze)
    elif isinstance(freeze, float):
        if 0 <= freeze <= 1:
            depth = int((Decimal(repr(freeze)) * last).to_integral_value(ROUND_HALF_UP))
    elif not isinstance(freeze, bool) and 0 <= freeze <= last:
        depth = freeze
    if depth is None:
        raise ValueError(_no_such_depth(freeze, names, key))
    return depth + 1 if depth else 0


def _place(name: str, rules: Rules) -> _Place:
    for group, specs in enumerate(rules.values()):
        for pattern, suffix in [(specs, None)] if isinstance(specs, str) else specs or ():
            if match := re.match(pattern, name):
                captured = (int(text) if text.isdigit() else text for text in match.groups() if text is not None)
                return _Place((group, *captured, *(suffix or ())), match[0])
    return _Place((inf,), name)


def _stage_indices(keys: set[_Key]) -> dict[_Key, int]:
    """Number the keys: 0 for the stem's, the first group; then by 1 for each that does not join the one before it."""
    index_of: dict[_Key, int] = {}
    index = 0
    for key in sorted(keys):
        index += key[0] != 0 and not _joins(key)
        index_of[key] = index
    return index_of


def _joins(key: _Key) -> bool:
    return key[-1] in (_JOINS, inf)


def _most_common(paths: list[str]) -> str:
    counts = Counter(paths)
    return max(reversed(counts), key=counts.__getitem__)


def _no_such_depth(freeze: object, names: list[str], key: str) -> str:
    last = len(names) - 1
    nearest = get_close_matches(str(freeze), [*names, "none", "all"]) if isinstance(freeze, str) else []
    shown = names if len(names) <= 12 else [*names[:3], "…", names[-1]]
    message = (
        f"{key}={freeze}: this backbone has {last} stages, so use 0 to {last}, none, all, a share from 0.0 to 1.0, "
        f"or one of {', '.join(shown)}"
    )
    return f"{message}; nearest: {', '.join(nearest)}" if nearest else message


def _name(model: nn.Module) -> str:
    pretrained_cfg = getattr(model, "pretrained_cfg", None) or {}
    return pretrained_cfg.get("architecture") or type(model).__name__
