"""The output folder of a sweep: it holds one sweep, from its start on."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from thawlab.config.job import make_folder, remove_if_empty
from thawlab.config.schema import ConfigError
from thawlab.tracking.processes import is_alive, this_process


@contextmanager
def claimed(folder: Path, parent_id: str | None) -> Iterator[None]:
    """Take the folder for a sweep; what fails inside gives it back.

    Args:
        folder: is made where it is missing.
        parent_id: the parent run of the sweep that is gone on with, whose folder it may be already.

    Raises:
        ConfigError: it holds another sweep or run, or cannot be written to.
    """
    try:
        make_folder(folder)
        new = parent_id is None or not belongs_to(folder, parent_id)
        if new:
            _claim(folder)
        try:
            yield
        except BaseException:
            if new:
                with suppress(OSError):
                    (folder / "sweep.json").unlink(missing_ok=True)
                remove_if_empty(folder)
            raise
    except OSError as error:
        raise ConfigError(
            f"hydra.sweep.dir={folder}: this folder cannot be used ({error}); make room, or use another one"
        ) from error


def belongs_to(folder: Path, parent_id: str) -> bool:
    """Whether the folder is that of this sweep, by what the sweep wrote into it, not by what a store says."""
    return _read(folder / "sweep.json").get("parent_id") == parent_id


def _claim(folder: Path) -> None:
    path = folder / "sweep.json"
    if path.is_file() and _was_left(path):
        path.unlink(missing_ok=True)
    held = next((each for each in (path, folder / "job.json", *folder.glob("*/job.json")) if each.is_file()), None)
    if held is None:
        with suppress(FileExistsError):
            _mark(path)
            return
    raise ConfigError(
        f"hydra.sweep.dir={folder}: there is {_what(path) if path.is_file() else 'another run'} in this folder; leave "
        "it out or use another one, or go on with that sweep by its own command and resume=true"
    )


def _mark(path: Path) -> None:
    file = path.open("x", encoding="utf-8")
    try:
        with file:
            json.dump({"process": this_process()}, file)
    except OSError:
        path.unlink(missing_ok=True)
        remove_if_empty(path.parent)
        raise


def _was_left(path: Path) -> bool:
    """Whether a process that is gone took the folder, and began no sweep."""
    content = _read(path)
    return "parent_id" not in content and is_alive(content.get("process")) is not True


def _what(path: Path) -> str:
    title = _read(path).get("title")
    return f"another sweep ({title})" if title else "another sweep"


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
