"""One step of many heads in a few operations: their logits, their losses, and gradients that stay in their place."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def leaf_of(values: Sequence[Tensor], device: torch.device) -> Tensor:
    """A leaf of autograd over all heads, with a gradient that stays in its place."""
    leaf = torch.stack(list(values)).to(device).requires_grad_()
    leaf.grad = torch.zeros_like(leaf)
    return leaf


class Linear(torch.autograd.Function):
    """Features (S, B, D) times weights (S, G, D) plus biases (S, G, 1): logits (S, G, B).

    The gradients are added where they are kept at once: a tensor of this size costs more to make than to fill.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor | None, features: Tensor, *gradients: Tensor | None) -> Tensor:
        logits = torch.bmm(weight, features.mT) if bias is None else torch.baddbmm(bias, weight, features.mT)
        ctx.save_for_backward(features)
        ctx.gradients = gradients
        return logits

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (output,), (features,) = outputs, ctx.saved_tensors
        weight, bias = ctx.gradients
        weight = weight.view(len(output), -1, features.shape[2])
        if output.dtype == weight.dtype:
            weight.baddbmm_(output, features)
        else:  # under autocast
            weight += torch.bmm(output, features.to(output.dtype))
        if bias is not None:
            bias.view(len(output), -1).add_(output.sum(2))
        return (None,) * 5


def losses_of(logits: Tensor, labels: Tensor, smoothing: Tensor) -> tuple[Tensor, Tensor]:
    """Mean loss and number of right answers for each head.

    Args:
        logits: (S, G, C, B): the images come last, which is fastest.
        labels: (S, B).
        smoothing: (S, G, 1), or a single value.

    Returns:
        Two tensors (S, G).
    """
    scores = logits.float().log_softmax(2)
    true = labels[:, None, None, :].expand(-1, scores.shape[1], 1, -1)
    likelihood = scores.gather(2, true).squeeze(2)  # (S, G, B)
    losses = -((1 - smoothing) * likelihood + smoothing * scores.mean(2)).mean(2)
    with torch.no_grad():
        right = (logits.max(2).indices == labels[:, None, :]).sum(2)
    return losses, right


def correct_by_class(logits: Tensor, labels: Tensor) -> Tensor:
    """How many images of each class a head gets right.

    Args:
        logits: (H, C, B).
        labels: (B,).

    Returns:
        (H, C) float64.
    """
    right = (logits.max(1).indices == labels).double()  # (H, B)
    return right @ torch.nn.functional.one_hot(labels, logits.shape[1]).double()
