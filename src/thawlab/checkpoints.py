"""The checkpoints of a phase as files: written whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from thawlab.atomic import write_atomically


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes Lightning's checkpoints so that a kill at any byte leaves the one before.

    Lightning's own way writes to the folder for temporary files and then moves, which is a copy from disk to disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        write_atomically(Path(path), tensors(checkpoint))


def tensors(content: dict[str, Any]) -> Callable[[BinaryIO], None]:
    """What writes tensors and plain data to a file, by torch.save.

    Raises:
        OSError: when it writes: the disk is full or gone; torch says so in other words.
    """

    def write(file: BinaryIO) -> None:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise

    return write
