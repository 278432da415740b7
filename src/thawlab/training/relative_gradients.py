"""How large the gradient of the target's loss is beside the weights, for each group of layers.

The relative gradient norm of Lee et al. 2023 (arXiv:2210.11466): their code divides, for each batch, the norm of the
gradient by that of the weights and averages over batches. There the unit is a single tensor; here it is a group of
tensors, whose norms are those of all its numbers together.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thawlab.backbones.linear_head import as_vectors, linear_head, note_features, write
from thawlab.training.logistic import solve_logistic

Batches = Iterable[tuple[Tensor, Tensor]]  # images (B, 3, H, W), labels (B,)

# For a head that only has to give gradients their direction: scikit-learn's own strength, and enough steps to be near.
_STRENGTH = 1.0
_ITERATIONS = 200


def relative_gradients(model: nn.Module, groups: Mapping[str, Sequence[str]], batches: Batches) -> dict[str, float]:
    """The norm of each group's gradient of the cross-entropy beside the norm of its weights, averaged over batches.

    The network is in eval mode meanwhile, whatever is frozen has a gradient too, and nothing is left behind: no
    `.grad`, no mode, no buffer, no change of `requires_grad`.

    Args:
        model: maps images to logits.
        groups: names of parameters, by group.
        batches: moved to where the model is.

    Raises:
        ValueError: there are no batches, or all weights of a group are zero.
    """
    named = dict(model.named_parameters())
    parameters = {name: named[name] for names in groups.values() for name in names}
    sizes = {group: _norm([named[name] for name in names]) for group, names in groups.items()}
    if zero := [group for group, size in sizes.items() if size == 0]:
        raise ValueError(f"relative gradients: all weights of {', '.join(zero)} are zero")
    found: dict[str, list[float]] = {group: [] for group in groups}
    with _measuring(model, list(parameters.values())):
        for images, labels in _on_device(model, batches):
            loss = F.cross_entropy(_logits(model, images).float(), labels)
            # Not backward(): that would add to .grad, and DistributedDataParallel would wait for other processes.
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            by_name = dict(zip(parameters, gradients, strict=True))
            for group, names in groups.items():
                norm = _norm([gradient for name in names if (gradient := by_name[name]) is not None])
                found[group].append(norm / sizes[group])
    if not all(found.values()):
        raise ValueError("relative gradients: there are no images to measure them on")
    return {group: sum(values) / len(values) for group, values in found.items()}


@contextmanager
def fitted_head(model: nn.Module, batches: Batches) -> Iterator[None]:
    """Inside, the head is a logistic regression on the features of these images; afterwards it is as it was before.

    A head of random weights would send a gradient of random directions into the layers below it.

    Raises:
        ValueError: the head is not one linear layer.
    """
    head = linear_head(model)
    before = {name: value.detach().clone() for name, value in head.state_dict().items()}
    inputs: list[Tensor] = []
    hook = note_features(model, inputs)
    features, labels = [], []
    try:
        with _measuring(model, []), torch.no_grad():
            for images, targets in _on_device(model, batches):
                _logits(model, images)
                features.append(as_vectors(inputs.pop(), len(images)).float())
                labels.append(targets)
    finally:
        hook.remove()
    solution = solve_logistic(
        torch.cat(features), torch.cat(labels), _STRENGTH, _ITERATIONS, head.weight.shape[0], head.bias is not None
    )
    try:
        write(head, *solution)
        yield
    finally:
        head.load_state_dict(before)


@contextmanager
def _measuring(model: nn.Module, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Eval mode and gradients for these parameters inside, everything as it was afterwards."""
    modes = {module: module.training for module in model.modules()}
    frozen = [parameter for parameter in parameters if not parameter.requires_grad]
    try:
        model.eval()
        for parameter in frozen:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
        for module, training in modes.items():
            module.training = training


def _logits(model: nn.Module, images: Tensor) -> Tensor:
    logits = model(images)
    return logits[0] if isinstance(logits, tuple) else logits


def _on_device(model: nn.Module, batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    device = next(model.parameters()).device
    for images, labels in batches:
        yield images.to(device), labels.to(device)


def _norm(tensors: Sequence[Tensor]) -> float:
    """The norm of all numbers of the tensors together."""
    if not tensors:
        return 0.0
    return float(torch.stack([tensor.detach().double().norm() for tensor in tensors]).norm())
