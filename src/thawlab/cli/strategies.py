"""A table of all strategies, made from their code: what is trained when, at which rate, how much, and the paper."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import yaml

from thawlab.backbones import stages as ruler
from thawlab.backbones.weights import Network, build
from thawlab.config.schema import Section
from thawlab.launch.search_path import conf_dir
from thawlab.strategies.contract import STRATEGIES, MeasuresGradients
from thawlab.strategies.phases import ParameterGroup, Phase
from thawlab.training.planning import LayerSettings, Plan, plan

EPOCHS = 10
CLASSES = 10
IMAGE_SIZE = 224  # pixels a side
BACKBONES = {"EfficientNet-Lite0": "tf_efficientnet_lite0", "ViT-S": "vit_small_patch16_224"}
# Where the default of transfer=all would not show what a strategy is about.
TRANSFER = {"transplant": 0.5}
NOT_APPLICABLE = "–"


@dataclass(frozen=True)
class Row:
    """One strategy, in words.

    Attributes:
        name: as the user types it, with what else was set.
        phases: one line each; on the first of the backbones that the strategy applies to.
        rates: shares of optimizer.lr.
        parameters: how many are trained, over all phases, on each of the backbones.
        paper: where it was published.
    """

    name: str
    phases: tuple[str, ...]
    rates: str
    parameters: tuple[str, ...]
    paper: str


def rows() -> Iterator[Row]:
    """One row a strategy, in the order of their names, for `EPOCHS` epochs with the values of conf/strategy."""
    networks = [_untrained(name) for name in BACKBONES.values()]
    for name in STRATEGIES.names():
        strategy = STRATEGIES.load(name)
        content = (conf_dir() / "strategy" / f"{name}.yaml").read_text(encoding="utf-8")
        settings = strategy.Settings.model_validate(yaml.safe_load(content))
        plans = [_plans(network, settings, name) for network in networks]
        shown = next(each for each in plans if each)
        yield Row(
            f"{name}, transfer={TRANSFER[name]}" if name in TRANSFER else name,
            _story(shown),
            _rates(shown),
            tuple(_counts(each) for each in plans),
            strategy.PAPER,
        )


def _untrained(name: str) -> Network:
    """A network with random weights, and a classifier of as many source classes as ImageNet has."""
    network = build(name, CLASSES, pretrained=False)
    features = network.model.get_parameter(ruler.head_parameters(network.model)[0]).shape[1]
    return replace(network, source_classifier={"weight": torch.zeros(1000, features), "bias": torch.zeros(1000)})


def _plans(network: Network, settings: Section, name: str) -> list[Plan]:
    """The plan; where it depends on the images, one for each that there can be; none if the strategy does not apply."""
    strategy = STRATEGIES.load(name)
    wishes = LayerSettings(freeze=0, transfer=TRANSFER.get(name, "all"), batch_norm="auto", epochs=EPOCHS, seed=0)
    measures = isinstance(strategy, MeasuresGradients) and strategy.measures_gradients(settings)
    stages = [stage.name for stage in ruler.stages(network.model) if stage.parameters]
    found = []
    for largest in stages if measures else stages[:1]:
        fresh = replace(network, model=copy.deepcopy(network.model))
        sizes = {stage: 2.0 if stage == largest else 1.0 for stage in stages}
        try:
            found.append(plan(fresh, IMAGE_SIZE, settings, wishes, lambda *_, sizes=sizes: sizes))
        except ValueError:
            return []
    return found


def _story(plans: Sequence[Plan]) -> tuple[str, ...]:
    """A line for each phase; of many, for the first two and the last. One that is alone needs no name."""
    phases = plans[0].phases
    lines = [f"{_trained(plans, index)}, {_length(phase)}" for index, phase in enumerate(phases)]
    if len(lines) > 1:
        lines = [f"{phase.name}: {line}" for phase, line in zip(phases, lines, strict=True)]
    return tuple(lines) if len(lines) <= 3 else (*lines[:2], "…", lines[-1])


def _trained(plans: Sequence[Plan], index: int) -> str:
    """What a phase trains, such as: head + layer1–layer4."""
    layers, phase = plans[0].layers, plans[0].phases[index]
    stages = {stage.name: frozenset(stage.parameters) for stage in layers.stages}
    groups = [group for group in phase.groups if group.name in stages]
    beside = [group.name.replace("_", " ") for group in phase.groups if group.name not in (*stages, "head")]
    if not groups:
        return " + ".join(["head", *beside])
    names = [stage for stage in stages if stage in {group.name for group in groups}]
    if len(plans) > 1:
        chosen = {group.name for each in plans for group in each.phases[index].groups}
        span = "one of " + _span([stage for stage in stages if stage in chosen])
    elif all(frozenset(group.parameters) <= layers.added for group in groups):
        span = "what is added to " + _span(names)
    elif any(frozenset(group.parameters) < stages[group.name] for group in groups):
        span = "part of " + _span(names)
    else:
        span = _span(names)
    drawn = " from new random values" if phase.draw else ""
    return " + ".join(["head", span, *beside]) + drawn


def _span(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]}–{names[-1]}"


def _length(phase: Phase) -> str:
    if phase.logistic:
        return "solved for (as 1 epoch)"
    term = ", a term in the loss" if phase.regularisers else ""
    return f"{phase.epochs} epoch{'s' if phase.epochs > 1 else ''}{term}"


def _rates(plans: Sequence[Plan]) -> str:
    """The range over phases that are trained by gradients, apart for the head and for what is below it."""
    phases = [phase for phase in plans[0].phases if not phase.logistic]
    groups = [group for phase in phases for group in phase.groups]
    if not groups:
        return NOT_APPLICABLE  # nothing is trained by steps
    head = _range([group for group in groups if group.name == "head"])
    below = _range([group for group in groups if group.name != "head"])
    text = f"head {head}" + (f", below {below}" if below else "")
    scaled = any(phase.rates == "relative_gradients" for phase in phases)
    return f"{text}, by relative gradient" if scaled else text


def _range(groups: Sequence[ParameterGroup]) -> str:
    scales = [group.lr_scale for group in groups]
    ends = sorted({f"{scale:.2g}" for scale in (min(scales), max(scales))}, key=float) if scales else []
    return "–".join(ends)


def _counts(plans: Sequence[Plan]) -> str:
    counts = [_count(each) for each in plans]
    if not counts:
        return NOT_APPLICABLE
    return "–".join(dict.fromkeys([_short(min(counts)), _short(max(counts))]))


def _count(planned: Plan) -> int:
    """How many numbers the phases train, all together."""
    trained = frozenset().union(*(phase.parameters for phase in planned.phases))
    return sum(value.numel() for name, value in planned.network.model.named_parameters() if name in trained)


def _short(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1e6 else f"{count / 1e3:.1f} k"
