"""A classifier that is one linear layer: what can be solved for, or read off stored weights, row by row."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from thawlab.backbones.stages import head_parameters


def linear_head(model: nn.Module) -> nn.Linear | nn.Conv2d:
    """The one linear layer (also as a 1 × 1 convolution) from features to logits.

    Raises:
        ValueError: the classifier is something else, or several layers; the message is a clause to complete.
    """
    get_classifier = getattr(model, "get_classifier", None)
    head = get_classifier() if get_classifier else None
    if isinstance(head, nn.Conv2d) and (head.kernel_size != (1, 1) or head.groups != 1):
        raise ValueError(f"its classifier is a convolution of {head.kernel_size} in {head.groups} groups")
    if not isinstance(head, nn.Linear | nn.Conv2d):
        raise ValueError(f"its classifier is {_words(head)}")
    own = {id(parameter) for parameter in head.parameters()}
    parameters = dict(model.named_parameters())
    # Inception's auxiliary classifier sees no image outside training: its logits are never part of the result.
    others = [name for name in head_parameters(model) if not name.startswith("AuxLogits.")]
    others = [name for name in others if id(parameters[name]) not in own]
    if others:
        raise ValueError(f"it has further classifiers ({', '.join(others[:3])})")
    return head


def check_head(model: nn.Module, strategy: str, way_out: str = "train the head by steps") -> None:
    """Refuse a network whose head a strategy cannot solve for, with what to do in its place.

    Raises:
        ValueError: its head is not one linear layer.
    """
    try:
        linear_head(model)
    except ValueError as error:
        raise ValueError(
            f"strategy={strategy}: logistic regression needs a head that is one linear layer, and of this network "
            f"{error}; {way_out}, or use another backbone"
        ) from error


def check_features(model: nn.Module, size: int) -> None:
    """Refuse a network whose head is not given one vector an image of so many pixels a side; its modes stay.

    Raises:
        ValueError: it is given something else.
    """
    modes = {module: module.training for module in model.modules()}
    seen: list[Tensor] = []
    hook = note_features(model, seen)
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, size, size))
        as_vectors(seen.pop(), 1)
    finally:
        hook.remove()
        for module, training in modes.items():
            module.training = training


def note_features(model: nn.Module, into: list[Tensor]) -> RemovableHandle:
    """From now on, keep in the list what the head is given in each forward pass: its features."""
    # Outside of what torch.compile sees: it would take the list for a constant.
    note: Any = torch.compiler.disable(lambda _module, inputs: into.append(inputs[0]))
    return linear_head(model).register_forward_pre_hook(note)


def as_vectors(features: Tensor, images: int) -> Tensor:
    """Features as (B, D).

    Raises:
        ValueError: they are not one vector an image.
    """
    vectors = features.flatten(1)
    if features.shape[0] != images or max(features.shape[1:]) != vectors.shape[1]:
        raise ValueError(
            "logistic regression needs one feature vector an image, and the classifier of this network is given "
            f"{tuple(features.shape[1:])}; train the head by steps, or use another backbone"
        )
    return vectors


def write(head: nn.Linear | nn.Conv2d, weight: Tensor, bias: Tensor | None) -> None:
    """Put weight (classes, D) and bias (classes,) in the head's place, where it has one."""
    with torch.no_grad():
        head.weight.copy_(weight.view_as(head.weight))
        if head.bias is not None and bias is not None:
            head.bias.copy_(bias)


def rows(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weight (classes, features) and bias of a linear layer's state, whether it is a convolution or not."""
    return {name: value.flatten(1) if name == "weight" else value for name, value in state.items()}


def _words(head: object) -> str:
    if head is None:
        return "missing"
    return "several layers" if isinstance(head, tuple | list) else f"a {type(head).__name__}"
