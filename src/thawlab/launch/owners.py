"""Processes that end with those that started them."""

import os
import signal
import threading
import time
from collections.abc import Mapping

from thawlab.system.process_rank import has_rank
from thawlab.tracking.processes import is_alive, this_process

# The processes that wait for this one, `host:pid:start` each, divided by spaces.
_OWNERS = "THAWLAB_OWNERS"
# Seconds to close a run in. Ranks wait for each other: the one that stops first leaves the others waiting.
_GRACE, _GRACE_OF_RANKS = 60.0, 10.0


def owned(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a process that is to end when this one does, or one of those that this one ends with."""
    owners = [*environment.get(_OWNERS, "").split(), this_process()]
    return {**environment, _OWNERS: " ".join(dict.fromkeys(owners))}


def forget_owners() -> None:
    """Belong to nobody from now on."""
    os.environ.pop(_OWNERS, None)


def owner_is_gone() -> bool:
    """Whether a process that waits for this one has ended; one on another machine cannot be seen."""
    return any(is_alive(owner) is False for owner in os.environ.get(_OWNERS, "").split())


def end_with_owner() -> None:
    """Watch those who wait for this process: if one is gone nobody would read the result, and it stops in order.

    They were named before this process began, so that none can end unseen. What does not stop is ended after a while.
    """
    if not os.environ.get(_OWNERS):
        return

    def watch() -> None:
        while not owner_is_gone():
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE_OF_RANKS if has_rank() else _GRACE)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
