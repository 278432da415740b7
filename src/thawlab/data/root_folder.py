"""The folder that a data set is said to lie in: is it there, and is anything in it that may be read."""

import os
from difflib import get_close_matches
from pathlib import Path

from thawlab.data.folders import is_clutter
from thawlab.system.printable import printable


def folder_named(text: str, key: str) -> Path:
    """The folder that a user's text names; ~ is their home.

    Raises:
        FileNotFoundError: nobody knows where that home is.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(f"{key}: there is no such home folder; write the path in full") from error


def check_root(root: Path, key: str) -> None:
    """Refuse a root that is not there, is no folder, may not be read or is empty.

    Raises:
        FileNotFoundError: there is no such folder, with the nearest that there is.
        NotADirectoryError: it is a file.
        PermissionError: it may not be read.
        ValueError: there is nothing in it.
    """
    try:
        if root.is_file():
            raise NotADirectoryError(f"{key}: this is a file; give the folder that holds one folder for each class")
        if not root.is_dir():
            raise FileNotFoundError(f"{key}: there is no such folder; {_nearest(root)}")
        with os.scandir(root) as found:
            if all(is_clutter(entry.name) for entry in found):
                raise ValueError(f"{key}: no images in class folders (found nothing); use one folder for each class")
    except PermissionError as error:
        raise PermissionError(
            f"{key}: {printable(error.filename or root)} may not be read; give yourself the permission"
        ) from error


def _nearest(root: Path) -> str:
    if os.path.lexists(root):
        return f"{root} is a link to {root.readlink()}, which is gone" if root.is_symlink() else f"{root} is none"
    parents = root.absolute().parents
    above = next(parent for parent in parents if parent.is_dir())
    if (file := next(iter(each for each in parents if each.is_file()), None)) is not None:
        return f"{file} is a file"
    wanted = root.absolute().relative_to(above).parts[0]
    names = [entry.name for entry in above.iterdir() if entry.is_dir() and not is_clutter(entry.name)]
    near = get_close_matches(wanted, sorted(names), n=1)
    return f"the nearest name is {above / near[0]}" if near else f"{above} exists, but has no {wanted!r}"
