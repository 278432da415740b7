"""Is this process one of several that torchrun started? Ranks that others left in the environment mislead."""

import os
import socket
import sys

from thawlab.system.surroundings import shown

# Set for each process by torchrun, and by schedulers, outer scripts and notebooks that have nothing to do with it.
_RANKS = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "NODE_RANK",
    "GROUP_RANK",
    "GROUP_WORLD_SIZE",
    "ROLE_RANK",
    "ROLE_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_USE_AGENT_STORE",
)
# Lightning takes these for ranks, too: the processes of `srun -n 4 thawlab train …` would wait for the first of them.
_OF_SCHEDULERS = ("SLURM_PROCID", "JSM_NAMESPACE_RANK")
_ALONE = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
_SECONDS = 10.0  # in which torchrun's own process answers


def under_torchrun() -> bool:
    """Whether torchrun started this process, and is still there: its variables alone may be those of an outer one."""
    if not {"RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RUN_ID"} <= os.environ.keys():
        return False
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return True  # it is the first of its processes that answers the others, and that may be this one
    try:
        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        socket.create_connection(address, timeout=_SECONDS).close()
    except (KeyError, ValueError, OSError):
        return False
    return True


def forget_strangers() -> None:
    """Take out of the environment all ranks that torchrun did not give, with a note where they name other processes.

    Else the process would wait for others that never come, or take itself for one that has nothing to report.
    """
    for name in _OF_SCHEDULERS:
        os.environ.pop(name, None)
    if under_torchrun():
        return
    misleading = [
        f"{name}={os.environ[name]}" for name, alone in _ALONE.items() if os.environ.get(name, alone) != alone
    ]
    for name in _RANKS:
        os.environ.pop(name, None)
    if misleading:
        print(
            f"note: {shown(', '.join(misleading))} in the environment, yet torchrun did not start this process: "
            "it trains by itself; trainer=ddp starts several processes",
            file=sys.stderr,
        )
