"""A small network as strategies see it, and the phases that each makes of it with its shipped values."""

from dataclasses import replace
from typing import Any

import yaml

from thawlab.backbones.stages import Stage
from thawlab.launch.search_path import conf_dir
from thawlab.strategies import contract
from thawlab.strategies.phases import Layers, Phase

STAGES = (
    Stage("stem", ("conv1.weight", "bn1.weight", "bn1.bias")),
    Stage("layer1", ("layer1.conv.weight", "layer1.conv.lora_A")),
    Stage("layer2", ("layer2.conv.weight", "layer2.conv.lora_A", "layer2.q_bias")),
    Stage("layer3", ("layer3.conv.weight", "layer3.relative_position_bias_table", "layer3.norm.bias")),
)
HEAD = ("fc.weight", "fc.bias")
SOURCE = Stage("source_classifier", ("source.weight", "source.bias"))
LAYERS = Layers(
    STAGES,
    HEAD,
    frozen=0,
    norms=frozenset({"bn1.weight", "bn1.bias", "layer3.norm.bias"}),
    added=frozenset({"layer1.conv.lora_A", "layer2.conv.lora_A"}),
    beside=(SOURCE,),
    relative_gradients={"stem": 0.5, "layer1": 0.1, "layer2": 0.3, "layer3": 0.2},
)
STRATEGIES = contract.STRATEGIES.names()


def layers(**changes: Any) -> Layers:
    return replace(LAYERS, **changes)


def shipped(name: str) -> dict[str, Any]:
    """The values of conf/strategy/<name>.yaml."""
    return yaml.safe_load((conf_dir() / "strategy" / f"{name}.yaml").read_text())


def planned(name: str, epochs: int, given: Layers = LAYERS, **changes: Any) -> list[Phase]:
    """The phases of a strategy with its shipped values, but for the changes."""
    strategy = contract.STRATEGIES.load(name)
    return strategy.phases(given, strategy.Settings.model_validate({**shipped(name), **changes}), epochs)


def rates(phase: Phase) -> dict[str, float]:
    """Learning rate of each group as a share of optimizer.lr, to twelve digits."""
    return {group.name: round(group.lr_scale, 12) for group in phase.groups}
