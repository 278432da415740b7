"""How large the gradient of the target's loss is beside the weights, for parts of a network (Lee et al. 2023)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thawlab.backbones.linear_head import linear_head
from thawlab.logistic import solve_logistic

Batches = Iterable[tuple[Tensor, Tensor]]  # images (B, 3, H, W), labels (B,)

_STRENGTH, _ITERATIONS = 1.0, 1000  # of the head that is fitted for measuring


def relative_gradients(model: nn.Module, groups: Mapping[str, Sequence[str]], batches: Batches) -> dict[str, float]:
    """The relative gradient norm ‖g‖ / ‖w‖ of each group of parameters, all its tensors taken as one vector.

    g is the gradient of the mean cross-entropy over all images, with the model in eval mode. Nothing of the model is
    changed: no buffer, no `.grad`, no mode, and not what requires a gradient.

    Args:
        model: maps images to logits.
        groups: names of parameters, by the name of their group.
        batches: on any device.
    """
    parameters = dict(model.named_parameters())
    names = [name for group in groups.values() for name in group]
    tensors = [parameters[name] for name in names]
    total = [torch.zeros_like(tensor) for tensor in tensors]
    count = 0
    device = tensors[0].device
    with _measuring(model, tensors):
        for images, labels in batches:
            logits = model(images.to(device))
            logits = logits[0] if isinstance(logits, tuple) else logits
            loss = F.cross_entropy(logits.float(), labels.to(device), reduction="sum")
            # Not backward(): that would fill .grad, and start the exchange between distributed processes.
            gradients = torch.autograd.grad(loss, tensors, allow_unused=True)
            total = [whole if part is None else whole + part for whole, part in zip(total, gradients, strict=True)]
            count += len(labels)
    squares = {name: float((each.double() / count).square().sum()) for name, each in zip(names, total, strict=True)}
    sizes = {name: float(parameters[name].detach().double().square().sum()) for name in names}
    return {
        group: (sum(squares[name] for name in members) / max(sum(sizes[name] for name in members), 1e-24)) ** 0.5
        for group, members in groups.items()
    }


@contextmanager
def fitted_head(model: nn.Module, batches: Batches) -> Iterator[None]:
    """Inside, the head is a logistic regression on the features of these images; afterwards it is as it was.

    The gradients that a random head sends down say little about the images.

    Raises:
        ValueError: the head is not one linear layer.
    """
    head = linear_head(model)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].flatten(1)))
    labels = []
    try:
        with _measuring(model, ()), torch.no_grad():
            for images, target in batches:
                model(images.to(head.weight.device))
                labels.append(target)
    finally:
        hook.remove()
    classes, bias = head.weight.shape[0], head.bias is not None
    weight, offset = solve_logistic(torch.cat(seen), torch.cat(labels), _STRENGTH, _ITERATIONS, classes, bias)
    try:
        with torch.no_grad():
            head.weight.copy_(weight.view_as(head.weight))
            if head.bias is not None and offset is not None:
                head.bias.copy_(offset)
        yield
    finally:
        head.load_state_dict(before)


@contextmanager
def _measuring(model: nn.Module, tensors: Sequence[Tensor]) -> Iterator[None]:
    """Eval mode, and gradients for these tensors; afterwards everything as it was."""
    modes = {module: module.training for module in model.modules()}
    required = [tensor.requires_grad for tensor in tensors]
    model.eval()
    try:
        for tensor in tensors:
            tensor.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for tensor, requires in zip(tensors, required, strict=True):
            tensor.requires_grad_(requires)
        for module, training in modes.items():
            module.training = training
