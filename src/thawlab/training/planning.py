"""From a network and a strategy to phases: which parameters are trained when, at which rates."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import nn

from thawlab.backbones import reinitialise
from thawlab.backbones import stages as ruler
from thawlab.backbones.linear_head import check_head
from thawlab.backbones.weights import Network, draw_head
from thawlab.config.schema import Section, name_of
from thawlab.strategies.contract import STRATEGIES, ExtendsNetwork, MeasuresGradients
from thawlab.strategies.extensions.contract import EXTENSIONS, Context, Exports
from thawlab.strategies.phases import Layers, Phase
from thawlab.strategies.regularisers.contract import REGULARISERS

# For each group of parameter names, how large the gradient of the target's loss is beside the weights.
Gradients = Callable[[Network, Mapping[str, Sequence[str]]], Mapping[str, float]]


@dataclass(frozen=True)
class LayerSettings:
    """What the user says about layers, as in the configuration."""

    freeze: int | float | str
    transfer: int | float | str
    batch_norm: Literal["auto", "train", "eval"]
    epochs: int
    seed: int


@dataclass(frozen=True)
class Plan:
    """A network's layers, and the phases in which they are trained.

    Attributes:
        network: changed in place: stages drawn anew, and extended where the strategy asks for it.
        layers: under the names that the parameters have now.
        phases: at least one.
        transferred: how many leading stages, the stem being one, `transfer` names.
        extension: the module of `thawlab.strategies.extensions` that changed the network, by its name.
    """

    network: Network
    layers: Layers
    phases: tuple[Phase, ...]
    transferred: int
    extension: str | None = None

    @property
    def plain(self) -> bool:
        """Whether what is kept at the end is a plain model of timm's."""
        return self.extension is None or isinstance(EXTENSIONS.load(self.extension), Exports)

    def export(self) -> None:
        """Turn the trained model into what is kept: a plain one of timm's, unless its extension has to stay."""
        extension = EXTENSIONS.load(self.extension) if self.extension else None
        if isinstance(extension, Exports):
            extension.export(self.network.model)


def plan(network: Network, image_size: int, settings: Section, wishes: LayerSettings, gradients: Gradients) -> Plan:
    """Plan the phases of a strategy; stages that are not transferred get their random weights here.

    Raises:
        ValueError: a depth that the network does not have, or a strategy that does not suit it.
    """
    name = name_of(settings)
    strategy = STRATEGIES.load(name)
    stages = tuple(ruler.stages(network.model))
    kept = ruler.depth_to_count(wishes.transfer, stages, key="transfer")
    reinitialise_parameters(
        network, [each for stage in stages[kept:] for each in stage.parameters], wishes.seed, "transfer"
    )
    frozen = ruler.depth_to_count(wishes.freeze, stages)
    head = ruler.head_parameters(network.model)
    layers = Layers(stages, head, frozen, kept, norm_parameters(network.model))
    if isinstance(strategy, MeasuresGradients) and strategy.measures_gradients(settings):
        check_head(network.model, name)  # it is fitted before the gradients are measured
        groups = {stage.name: stage.parameters for stage in stages if stage.parameters}
        layers = replace(layers, relative_gradients=gradients(network, groups))
    extension = strategy.EXTENSION if isinstance(strategy, ExtendsNetwork) else None
    if extension is not None:
        context = Context(name, image_size, network.source_classifier)
        with seeded(wishes.seed, "extension"):
            layers = EXTENSIONS.load(extension).extend(network.model, layers, settings, context)
    phases = tuple(strategy.phases(layers, settings, wishes.epochs))
    if wishes.batch_norm != "auto":
        phases = tuple(replace(phase, batch_norm=wishes.batch_norm) for phase in phases)
    _check(layers, phases)
    layers = _draw_first(network, layers, phases[0], wishes.seed)
    return Plan(network, layers, phases, kept, extension)


def reinitialise_parameters(network: Network, parameters: Sequence[str], seed: int, purpose: str) -> None:
    """Give the named parameters new random values: the architecture's own, and torch's own for a linear head."""
    if not parameters:
        return
    head = set(ruler.head_parameters(network.model)) & set(parameters)
    with seeded(seed, purpose):
        name = network.model.pretrained_cfg["architecture"]  # type: ignore[index]
        reinitialise.reinitialise(network.model, name, parameters, network.options)  # type: ignore[arg-type]
        if head:
            draw_head(network.model)


def norm_parameters(model: nn.Module) -> frozenset[str]:
    """Names of the weights and biases of normalisation layers, of whatever kind."""
    return frozenset(
        f"{path}.{name}" if path else name
        for path, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim == 1
    )


@contextmanager
def seeded(seed: int, purpose: str) -> Iterator[None]:
    """Torch's random state from the seed and the purpose inside, the state before afterwards."""
    words = np.random.SeedSequence([seed, *purpose.encode()]).generate_state(1, np.uint64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(words[0]))
        yield


def _draw_first(network: Network, layers: Layers, phase: Phase, seed: int) -> Layers:
    """What the first phase draws anew is not transferred, whatever `transfer` says of the phases after it."""
    reinitialise_parameters(network, phase.draw, seed, "transfer")
    first = layers.stages_below(phase.draw)
    return layers if layers.kept is not None and layers.kept <= first else replace(layers, kept=first)


def _check(layers: Layers, phases: Sequence[Phase]) -> None:
    """What every strategy guarantees."""
    below = {name for stage in layers.stages[: layers.frozen] for name in stage.parameters}
    names = [phase.name for phase in phases]
    assert phases
    assert len(set(names)) == len(names), names
    for phase in phases:
        assert phase.epochs >= 1, phase.name
        assert not below & phase.parameters, phase.name
        assert set(layers.head) <= phase.parameters, phase.name
        for settings in phase.regularisers:
            REGULARISERS.load(name_of(settings))
