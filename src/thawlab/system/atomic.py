"""Writing files that other processes, and later runs, find whole or not at all."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_PARTIAL = ".part"
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)  # from file systems that keep nothing back, or cannot say so


def write_atomically(path: Path, content: str | bytes | Callable[[BinaryIO], object], private: bool = False) -> None:
    """Write a file so that a kill at any byte, a full disk or a power cut leaves what was there before.

    It is written beside its place, brought to the disk, and put into its place by a rename.

    Args:
        path: the file; its folder is made.
        content: a text, kept as UTF-8; bytes; or what writes them to the file that it is given.
        private: whether nobody but its owner may read it.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}{_PARTIAL}")
    try:
        with partial.open("wb") as file:
            if private:
                partial.chmod(0o600)
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            _sync(file.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
    _sync_folder(path.parent)


def remove_partial(folder: Path) -> None:
    """Remove what killed processes left half written in a folder that no other process writes."""
    for partial in folder.glob(f"*.*{_PARTIAL}"):
        if partial.suffixes[-2].removeprefix(".").isdigit() and partial.is_file():
            with suppress(OSError):
                partial.unlink()


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _sync_folder(folder: Path) -> None:
    """Bring the rename to the disk; what cannot do that still has one whole file or the other."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
