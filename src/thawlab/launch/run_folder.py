"""The output folder of a run, and whose files it holds.

A run's tag says where its folder is, but whoever can write to a shared store can let it name any folder.
"""

from contextlib import suppress
from pathlib import Path

_RUN_ID = "run_id"
_OF_A_RUN = (_RUN_ID, "checkpoints", "heads")


def is_used(folder: Path) -> bool:
    """Whether a run has left files in the folder."""
    return any((folder / name).exists() for name in _OF_A_RUN)


def belongs_to(folder: Path, run_id: str) -> bool:
    """Whether the folder is that of this run, by what the run wrote into it at its start."""
    return run_in(folder) == run_id


def run_in(folder: Path) -> str | None:
    """The id of the run that wrote the folder; None if it holds none."""
    with suppress(OSError, ValueError):
        return (folder / _RUN_ID).read_text(encoding="utf-8")
    return None
