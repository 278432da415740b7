"""torchrun, without its own report of what failed: the process that failed has said it.

`python -m thawlab.launch.torchrun …` takes what `torchrun …` takes.
"""

import logging
import signal
import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main


def start() -> int:
    """Start the processes and wait for them; 1 if one failed, and a sentence where it could not say so itself."""
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        main()
    except ChildFailedError as error:
        for rank, failure in error.failures.items():
            # torchrun ends the others by SIGTERM.
            if failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM:
                print(f"error: process {rank} was ended by {_name(-failure.exitcode)}", file=sys.stderr)
        return 1
    return 0


def _name(signum: int) -> str:
    name = signal.Signals(signum).name
    return f"{name}, as it is when memory runs out" if name == "SIGKILL" else name


if __name__ == "__main__":
    sys.exit(start())
