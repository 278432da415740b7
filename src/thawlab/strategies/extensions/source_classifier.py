"""The classifier that the weights were trained with, kept beside the new head, for strategies that go on using it.

The network's forward pass does not call it: the strategy's loss does, on the features that the head gets.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from thawlab.backbones.stages import Stage
from thawlab.config.schema import Section
from thawlab.strategies.extensions.contract import Context
from thawlab.strategies.phases import Layers

_NAME = "source_classifier"


def extend(model: nn.Module, layers: Layers, _settings: Section, context: Context) -> Layers:
    """Add the source's classifier as `model.source_classifier`, with its weights.

    Raises:
        ValueError: the weights have no classifier, or the head is none that it can stand beside.
    """
    if context.source_classifier is None:
        raise ValueError(
            f"strategy={context.strategy}: needs the classifier that the weights were trained with, and these have "
            "none (random weights, or weights without a classifier); use weights with their classifier, or "
            "strategy=finetune"
        )
    head = model.get_classifier() if hasattr(model, "get_classifier") else None  # type: ignore[operator]
    if not isinstance(head, nn.Linear):
        raise ValueError(
            f"strategy={context.strategy}: the source's classifier can stand beside a single linear layer, and this "
            f"backbone's head is another ({type(head).__name__}); use strategy=finetune"
        )
    linear = _linear(context.source_classifier)
    if linear is None or linear.in_features != head.in_features:
        shape = tuple(context.source_classifier["weight"].shape)
        raise ValueError(
            f"strategy={context.strategy}: the source's classifier has weights of shape {shape}, and the head takes "
            f"{head.in_features} features; use weights of the same architecture, or strategy=finetune"
        )
    model.add_module(_NAME, linear.to(head.weight.device, head.weight.dtype))
    names = tuple(f"{_NAME}.{name}" for name, _ in linear.named_parameters())
    return replace(layers, beside=(*layers.beside, Stage(_NAME, names)))


def export(model: nn.Module) -> None:
    """Take the source's classifier away."""
    delattr(model, _NAME)


def _linear(classifier: Mapping[str, Tensor]) -> nn.Linear | None:
    """The classifier as a linear layer; None where its shape is no linear layer's."""
    weight, bias = classifier["weight"], classifier.get("bias")
    if weight.dim() == 4 and weight.shape[2:] == (1, 1):  # a 1 × 1 convolution on pooled features
        weight = weight.flatten(1)
    if weight.dim() != 2 or (bias is not None and bias.shape != weight.shape[:1]):
        return None
    linear = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None)
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        linear.weight.copy_(weight)
        if bias is not None:
            linear.bias.copy_(bias)
    return linear
