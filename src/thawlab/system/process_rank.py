"""Which of a run's processes this is, as torchrun tells each; a process that it did not start is the only one."""

import os


def process_rank() -> int:
    """The number of this process among all of the run, before and after torch.distributed is set up: 0 reports."""
    return int(os.environ.get("RANK", "0"))


def has_rank() -> bool:
    """Whether torchrun started this process."""
    return "RANK" in os.environ


def world_size() -> int:
    """How many processes there are in all."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_world_size() -> int:
    """How many of them are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
