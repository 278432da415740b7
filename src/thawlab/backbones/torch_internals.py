"""Names of torch that it does not promise to keep, in one place, each with why no public one serves.

A test names whichever is gone after an update.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# What a module returns is nested: tuples, lists, dictionaries, and classes that libraries register with torch.
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

__all__ = [
    "TreeSpec",
    "foreach_mul_",
    "foreach_norm",
    "fused_adam_",
    "fused_sgd_",
    "tree_flatten",
    "tree_leaves",
    "tree_unflatten",
    "version",
]

_torch: Any = torch  # type checkers are not shown what begins with an underscore


def version(tensor: Tensor) -> int:
    """How often the tensor was written to in place: a comparison of values would miss what is written back."""
    return tensor._version


# Kernels that take many tensors in one call, without the sorting and checking that the public functions do around
# them, which takes longer than the kernels do.


def foreach_norm(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """The Euclidean norm of each tensor."""
    return _torch._foreach_norm(tensors)


def foreach_mul_(tensors: Sequence[Tensor], factor: Tensor) -> None:
    """Multiply all in place by a scalar tensor."""
    _torch._foreach_mul_(tensors, factor)


def fused_adam_(*tensors: Sequence[Tensor], decoupled: bool, **settings: Any) -> None:
    """A step of Adam, or of AdamW where the weight decay is decoupled; the arguments are those of the kernel."""
    (_torch._fused_adamw_ if decoupled else _torch._fused_adam_)(*tensors, **settings)


def fused_sgd_(*tensors: Sequence[Tensor], **settings: Any) -> None:
    """A step of SGD; the arguments are those of the kernel."""
    _torch._fused_sgd_(*tensors, **settings)
