"""The processes that train together, once torch.distributed is set up; before, and without it, each is alone."""

from typing import TypeVar

import torch.distributed as dist

Value = TypeVar("Value")


def rank_and_size() -> tuple[int, int]:
    """Number of this process, and how many there are."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gather(value: Value) -> list[Value]:
    """The value of each process, in the order of their ranks."""
    _, size = rank_and_size()
    everyone = [value] * size
    if size > 1:
        dist.all_gather_object(everyone, value)
    return everyone
