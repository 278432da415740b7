"""The checkpoints of a phase: written whole, read only if they are, and as true after their folder was moved."""

import pickle
import shutil
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from thawlab.system.atomic import write_atomically

_DAMAGED = (
    OSError,
    EOFError,
    RuntimeError,  # torch's, and of what is no archive of its
    ValueError,
    KeyError,
    NotImplementedError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
)


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes Lightning's checkpoints so that a kill at any byte leaves the one before.

    Lightning's own way writes to the folder for temporary files and then moves, which is a copy from disk to disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
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


class Kept(ModelCheckpoint):
    """Lightning forgets which epoch was best where the folder of the checkpoints is called otherwise than it was."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(_moved(state_dict, str(self.dirpath)))


def _moved(state: dict[str, Any], folder: str) -> dict[str, Any]:
    def place(path: str) -> str:
        return str(Path(folder, Path(path).name)) if path else path

    paths = ("best_model_path", "kth_best_model_path", "last_model_path")
    scores = {place(path): score for path, score in state["best_k_models"].items()}
    return {**state, **{key: place(state[key]) for key in paths}, "best_k_models": scores, "dirpath": folder}


@dataclass(frozen=True)
class Resumable:
    """What a resumed run finds in a phase's folder.

    Attributes:
        checkpoint: to go on with; None where the phase begins anew.
        damaged: names of the checkpoints that are not whole.
    """

    checkpoint: Path | None
    damaged: tuple[str, ...] = ()


def resumable(folder: Path) -> Resumable:
    """The checkpoint of the latest epoch that is whole, with all that it names; `last.ckpt` of two of one epoch.

    `best.ckpt` is as complete as `last.ckpt`, and the later one if the process was killed between the two.
    """
    there = [path for path in (folder / "last.ckpt", folder / "best.ckpt") if path.exists()]
    found = {path: content for path in there if (content := read_whole(path)) is not None}
    names = {path.name for path in found}
    usable = [path for path, content in found.items() if _named(content) <= names]
    latest = max(usable, key=lambda path: found[path]["epoch"], default=None)  # the first of equals
    return Resumable(latest, tuple(path.name for path in there if path not in found))


def _named(content: dict[str, Any]) -> set[str]:
    """The other checkpoints that it counts on; `last.ckpt` is written anew after each epoch."""
    states = [state for state in content.get("callbacks", {}).values() if isinstance(state, dict)]
    best = [(state.get("best") or {}).get("checkpoint") or state.get("best_model_path") for state in states]
    return {Path(path).name for path in best if path} - {"last.ckpt"}


def read_whole(path: Path) -> dict[str, Any] | None:
    """What a checkpoint holds, its tensors read from the disk as they are used; None unless every byte is sound."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except _DAMAGED:
        return None
    return content if isinstance(content, dict) and {"epoch", "state_dict"} <= content.keys() else None


def network_state(path: Path) -> dict[str, torch.Tensor]:
    """The network in a checkpoint, averaged where weights are, by its own names."""
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}


def copy_whole(source: Path, target: Path) -> None:
    """Copy a checkpoint to another name."""
    with source.open("rb") as content:
        write_atomically(target, lambda file: shutil.copyfileobj(content, file))
