"""A loader's worker that the system ended: what is raised in its place, and what it says."""

import re
from collections.abc import Iterator

_NO_ROOM = re.compile(r"signal: Bus error|shared memory|unable to write to file </torch_")
_ENDED = re.compile(r"DataLoader worker \(pid \d+\) is killed by signal: Killed")


class WorkerLostError(RuntimeError):
    """A process that decoded images could not go on; the message says what to do."""


def lost_worker(error: BaseException) -> WorkerLostError | None:
    """The message of an error, or of what it came from, if a worker without memory is behind it."""
    for each in _chain(error):
        if not isinstance(each, RuntimeError):
            continue
        if isinstance(each, WorkerLostError):
            return each
        text = str(each)
        if _NO_ROOM.search(text):
            return WorkerLostError(
                "trainer.workers: the shared memory in /dev/shm ran out, through which the processes that decode "
                "images hand over their batches; use trainer.workers=0, or give it more room, as by Docker's "
                "--shm-size=8g"
            )
        if _ENDED.search(text):
            return WorkerLostError(
                "trainer.workers: the system ended a process that decodes images, most likely because the machine's "
                "memory ran out; use fewer of them, or trainer.workers=0"
            )
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
