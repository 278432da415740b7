"""bfloat16 for processors that have none: float32 with the operands and the results of all layers rounded.

Products of two bfloat16 are exact in float32, and are added up in it in hardware, too. So the values are those of
hardware but for the order of additions, in about twice the time of float32; what PyTorch itself computes in bfloat16
on such a processor takes ten to twenty times as long.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_PRODUCTS = (nn.Conv2d, nn.Linear)


@contextmanager
def rounding(model: nn.Module) -> Iterator[None]:
    """Forward passes of the model as if in bfloat16; its weights are as before afterwards."""
    kept = [(module, module.weight.data) for module in model.modules() if isinstance(module, _PRODUCTS)]
    with ExitStack() as stack:
        for module in model.modules():
            stack.callback(module.register_forward_hook(_round_result).remove)
        for module, weight in kept:
            stack.callback(module.register_forward_pre_hook(_round_operand).remove)
            module.weight.data = _rounded(weight)
        try:
            yield
        finally:
            for module, weight in kept:
                module.weight.data = weight


def _rounded(value: Any) -> Any:
    return (
        value.to(torch.bfloat16).to(value.dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
    )


def _round_operand(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_rounded(each) for each in args)


def _round_result(_module: nn.Module, _args: tuple[Any, ...], result: Any) -> Any:
    return _rounded(result)
