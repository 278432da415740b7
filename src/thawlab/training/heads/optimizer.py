"""One optimizer for many heads, whose step is for each of them what it would be alone."""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from thawlab.training.heads.fused_steps import DirectSteps, RowAdamW
from thawlab.training.optimizers import create_optimizer

# How far what an optimizer does to a number depends on other numbers: not at all, on those of its tensor, on all.
Coupling = Literal["number", "tensor", "all"]

_STEPS = 8  # over which an optimizer is tried out
_WIDTH = 160  # of the weights it is tried out on: some treat tensors of 128 and more in another way


def head_optimizer(
    name: str,
    options: Mapping[str, Any],
    rates: Sequence[tuple[float, float]],
    leaves: Sequence[tuple[Tensor, torch.Size]],
    reach: Coupling,
) -> tuple[Optimizer, Callable[[], list[float]]]:
    """An optimizer in which each head has its own learning rate and weight decay.

    AdamW moves all heads as one tensor. Others have a group for each pair of a learning rate and a weight decay that
    occurs, and what they move are views of the leaves; their gradients are views of the leaves' gradients, which have
    to stay where they are. They get neighbours of one group as one tensor, if that makes no difference.

    Args:
        name: timm's.
        options: further arguments of it.
        rates: learning rate and weight decay of each of the H heads.
        leaves: the weights (H, …), and the biases if there are any, each with the shape that a head alone has.
            Biases do not decay.
        reach: of the optimizer.

    Returns:
        The optimizer, and what gives the present learning rates of the heads.

    Raises:
        ValueError: timm does not know the optimizer, or it does not take one of the options.
    """
    everything = {"params": [leaf for leaf, _ in leaves], "lr": 1.0, "weight_decay": 0.0, "name": "head"}
    whole = create_optimizer(name, [everything], 1.0, options)
    if RowAdamW.can_take(whole):
        rows = RowAdamW(whole, rates)
        return rows, rows.rates
    members: dict[tuple[float, float], list[Tensor]] = {}
    for number, (leaf, shape) in enumerate(leaves):
        keys = [(lr, 0.0 if number else decay) for lr, decay in rates]
        runs = [(key, list(heads)) for key, heads in groupby(range(len(keys)), key=lambda head: keys[head])]
        if reach != "number":
            runs = [(key, [head]) for key, heads in runs for head in heads]
        for key, heads in runs:
            members.setdefault(key, []).append(_part(leaf, heads, shape))
    places = list(members)
    groups = [
        {"params": parts, "lr": lr, "weight_decay": decay, "name": "head"} for (lr, decay), parts in members.items()
    ]
    made = create_optimizer(name, groups, rates[0][0], options)
    if DirectSteps.can_take(made):
        made = DirectSteps(made)
    chosen = [made.param_groups[places.index(each)] for each in rates]
    return made, lambda: [group["lr"] for group in chosen]


def coupling(name: str, options: Mapping[str, Any]) -> Coupling:
    """How far an optimizer reaches when it moves heads: tried out, not looked up.

    LAMB, for one, scales all gradients by the norm of all of them, and each tensor's step by the tensor's norm. One
    whose steps need more than gradients counts as reaching all.
    """
    try:
        return _tried(name, options)
    except RuntimeError:
        return "all"


def _tried(name: str, options: Mapping[str, Any]) -> Coupling:
    generator = torch.Generator().manual_seed(0)
    shapes = ((_WIDTH, _WIDTH), (_WIDTH,))
    starts = [torch.randn(2, *each, generator=generator) for each in shapes]
    gradients = [[3.0 * torch.randn(2, *each, generator=generator) for each in shapes] for _ in range(_STEPS)]

    def stepped(*chosen: int | slice) -> list[Tensor]:
        parts = [start[one].clone().requires_grad_() for one in chosen for start in starts]
        groups = [{"params": parts, "lr": 0.01, "weight_decay": 0.01, "name": "head"}]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            optimizer = create_optimizer(name, groups, 0.01, options)
            for row in gradients:
                for part, gradient in zip(parts, [each[one] for one in chosen for each in row], strict=True):
                    part.grad = gradient.clone()
                optimizer.step()
        return [part.detach() for part in parts]

    alone = [*stepped(0), *stepped(1)]
    if not _same(alone, stepped(0, 1)):
        return "all"
    stacked = [value[head] for head in (0, 1) for value in stepped(slice(None))]
    return "number" if _same(alone, stacked) else "tensor"


def _same(ones: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return all(torch.allclose(one, other, rtol=1e-6, atol=1e-7) for one, other in zip(ones, others, strict=True))


def _part(leaf: Tensor, heads: Sequence[int], shape: torch.Size) -> Tensor:
    """The heads' part of a leaf, as a tensor of its own in the same memory, with its part of the gradient."""
    assert leaf.grad is not None
    rows = slice(heads[0], heads[-1] + 1)
    size = shape if len(heads) == 1 else (len(heads), *shape)
    part = leaf.detach()[rows].view(size).requires_grad_()
    part.grad = leaf.grad[rows].view(size)
    return part
