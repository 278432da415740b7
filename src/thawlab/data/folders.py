"""A folder tree, read once: images and folders, without what systems and programs leave behind."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from thawlab.data.formats import extensions
from thawlab.system.printable import printable

# Beside what begins with a dot, such as .ipynb_checkpoints, .Trash-1000, .AppleDouble, .thumbnails and ._photo.jpg.
_CLUTTER = frozenset(
    {"__macosx", "icon\r", "network trash folder", "resource.frk", "temporary items"}  # macOS
    | {"$recycle.bin", "desktop.ini", "ehthumbs.db", "msocache", "recycled", "recycler", "system volume information"}
    | {"thumbs.db", "$extend"}  # Windows
    | {"lost+found"}  # Linux
    | {"#recycle", "#snapshot", "@appstore", "@eadir", "@recently-snapshot", "@recycle", "@sharebin", "@tmp"}
    | {"@__thumb", "~snapshot", "_gsdata_", "stversions"}  # file servers, synchronisation
    | {"__pycache__", "lightning_logs", "node_modules"}  # programs
)
_CLUTTER_LIKE = re.compile(r"found\.\d{3}")  # what chkdsk could save
_OWN = frozenset({"mlruns", "outputs"})  # this program's, where it is started inside the root
_MOST_LINKS = 3  # links to folders below one another that are followed: enough for order, and no endless ways


@dataclass(frozen=True)
class Folder:
    """A folder and all below it, in the order of the names, so that nothing depends on the file system.

    Attributes:
        path: as it was reached.
        entries: folders, and files whose names end as an image's, be they one or not.
        others: ends of names -> files directly in it that are passed over.
    """

    path: Path
    entries: tuple["Folder | Path", ...]
    others: Counter[str] = field(default_factory=Counter)

    @cached_property
    def name(self) -> str:
        """Its name as `portable` gives it."""
        return portable(self.path.name)

    @cached_property
    def folders(self) -> tuple["Folder", ...]:
        """The folders directly in it."""
        return tuple(entry for entry in self.entries if isinstance(entry, Folder))

    @cached_property
    def images(self) -> tuple[Path, ...]:
        """The images directly in it."""
        return tuple(entry for entry in self.entries if not isinstance(entry, Folder))

    @cached_property
    def count(self) -> int:
        """How many images are in it and below."""
        return len(self.images) + sum(folder.count for folder in self.folders)

    @cached_property
    def full(self) -> tuple["Folder", ...]:
        """The folders directly in it that hold images, be it further below."""
        return tuple(folder for folder in self.folders if folder.count)

    def below(self) -> Iterator[Path]:
        """All images in it and below."""
        for entry in self.entries:
            if isinstance(entry, Folder):
                yield from entry.below()
            else:
                yield entry

    def passed_over(self) -> Counter[str]:
        """Ends of names -> files in it and below that are passed over."""
        return sum((folder.passed_over() for folder in self.folders), self.others.copy())


def portable(name: str) -> str:
    """A file name as text that every system agrees on.

    macOS may store accents decomposed, and a Linux name need not be UTF-8 at all; ids must survive both, and Parquet.
    """
    return printable(unicodedata.normalize("NFC", name))


def read_tree(root: Path) -> Folder:
    """Read a folder and all below it; links are followed, but not back to where they came from.

    Raises:
        PermissionError: a folder may not be read.
    """
    real = os.path.realpath(root)
    tree = _read(root, real, frozenset({real, *map(str, Path(real).parents)}), 0)
    own = [each for each in tree.folders if each.path.name in _OWN and not each.images]
    return Folder(tree.path, tuple(each for each in tree.entries if each not in own), tree.others)


def is_clutter(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or left behind by a system, a file server or a program."""
    low = name.lower()
    return low.startswith(".") or low in _CLUTTER or _CLUTTER_LIKE.fullmatch(low) is not None


def _read(folder: Path, real: str, above: frozenset[str], links: int) -> Folder:
    """The same for a folder whose real path is `real`, below the real `above`, reached through so many links."""
    with os.scandir(folder) as found:
        entries = [entry for entry in found if not is_clutter(entry.name)]
    kept: list[Folder | Path] = []
    others: Counter[str] = Counter()
    for entry in sorted(entries, key=lambda entry: (portable(entry.name), entry.name)):
        if _is_folder(entry):
            linked = entry.is_symlink()
            there = os.path.realpath(entry.path) if linked else os.path.join(real, entry.name)  # noqa: PTH118
            if links + linked <= _MOST_LINKS and there not in above:
                kept.append(_read(folder / entry.name, there, above | {there}, links + linked))
        elif (end := os.path.splitext(entry.name)[1].lower()) in extensions():  # noqa: PTH122 (ten times as fast)
            kept.append(folder / entry.name)
        else:
            others[portable(end) or "no extension"] += 1
    return Folder(folder, tuple(kept), others)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
