"""The start of a phase for small networks, and training steps as a run takes them."""

from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from small_fits import CLASSES, SIZE
from thawlab.backbones import freezing
from thawlab.backbones import stages as ruler
from thawlab.strategies.phases import Layers
from thawlab.strategies.regularisers.contract import PhaseStart, Regulariser, StepOutputs

SOURCE_CLASSES = 5


def settings(**values: Any) -> Any:
    return SimpleNamespace(**values)


def images(count: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def labels(count: int = 4) -> Tensor:
    return torch.arange(count) % len(CLASSES)


def start_of(
    model: nn.Module,
    freeze: int = 0,
    kept: int | None = None,
    batches: Iterable[tuple[Tensor, Tensor]] | None = None,
    source_classifier: dict[str, Tensor] | None = None,
) -> PhaseStart:
    """A phase that trains the head and all above the freeze depth."""
    stages = tuple(ruler.stages(model))
    layers = Layers(stages, ruler.head_parameters(model), freeze, kept)
    beside = [name for name, _ in model.named_parameters() if name.startswith("source_classifier.")]
    freezing.train_only(model, [*layers.head, *beside, *(name for s in stages[freeze:] for name in s.parameters)])
    data = [(images(4), labels(4)), (images(3, seed=1), labels(3))] if batches is None else batches
    return PhaseStart(model, layers, torch.device("cpu"), len(CLASSES), source_classifier, lambda: iter(data), "some")


def with_source_classifier(model: nn.Module) -> dict[str, Tensor]:
    """Put a source's classifier beside the model's own; what `PhaseStart.source_classifier` is then."""
    torch.manual_seed(7)
    features = model.get_classifier().in_features  # type: ignore[operator,union-attr]
    model.source_classifier = nn.Linear(features, SOURCE_CLASSES)
    return {name: value.detach().clone() for name, value in model.source_classifier.named_parameters()}


def step(model: nn.Module, regulariser: Regulariser, targets: Tensor | None = None, **which: Any) -> Tensor:
    """The term after a forward pass of a batch."""
    batch = images(**which)
    return regulariser.loss(StepOutputs(batch, labels(len(batch)) if targets is None else targets, model(batch)))


def features_of(model: nn.Module, batch: Tensor) -> Tensor:
    """What the classifier is given, worked out by timm's own two halves of the forward pass."""
    return model.forward_head(model.forward_features(batch), pre_logits=True)  # type: ignore[operator]


def hooks(model: nn.Module) -> Iterator[Any]:
    for module in model.modules():
        yield from module._forward_hooks.values()
        yield from module._forward_pre_hooks.values()


def drift(model: nn.Module) -> None:
    """Move every parameter somewhere else, as training does."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
