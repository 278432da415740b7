"""Finding the images of a folder tree: `root/train|val|test/CLASS/*` or `root/CLASS/*`."""

import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

from thawlab.printable import printable

# A list of our own: Pillow's would take PDF, video and science formats for photographs.
EXTENSIONS = frozenset(
    {".apng", ".avif", ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm"}
    | {".ppm", ".tif", ".tiff", ".webp"}
)
_SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_CLUTTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


Splits = dict[str, dict[str, list[Path]]]  # "train", "val" or "test" -> class -> images


@dataclass
class Listing:
    """What lies below a root; every order is that of the names, so that it does not depend on the file system."""

    splits: Splits
    ignored: Counter[str] = field(default_factory=Counter)  # extension -> files passed over
    stray: list[str] = field(default_factory=list)  # images beside the class folders, folders beside the splits

    def only(self, kept: Collection[Path]) -> "Listing":
        """The same without the images that are not among these; a class stays even if nothing is left of it."""
        splits = {
            split: {name: [path for path in images if path in kept] for name, images in classes.items()}
            for split, classes in self.splits.items()
        }
        return replace(self, splits=splits)


def list_images(root: Path, key: str) -> Listing:
    """List the images below a root, by split and class.

    Hidden files, `Thumbs.db` and files without an image's extension are passed over; folders inside a class and
    links are followed. Errors begin with `key`, such as "dataset.root=photos".

    Raises:
        FileNotFoundError: the root does not exist.
        NotADirectoryError: the root is a file.
        PermissionError: a folder may not be read.
        ValueError: there is no train folder beside val or test, or two folders stand for one split or class.
    """
    try:
        _check_root(root, key)
        listing = Listing({})
        for split, folder in _split_folders(root, key, listing).items():
            listing.splits[split] = _classes(folder, key, listing)
    except PermissionError as error:
        raise PermissionError(f"{key}: {error.filename} may not be read; give yourself the permission") from error
    return listing


def portable(name: str) -> str:
    """A file name as text that every system agrees on.

    macOS may store accents decomposed, and a Linux name need not be UTF-8 at all; ids must survive both, and Parquet.
    """
    return printable(unicodedata.normalize("NFC", name))


def _check_root(root: Path, key: str) -> None:
    if root.is_file():
        raise NotADirectoryError(f"{key}: this is a file; give the folder that holds one folder for each class")
    if root.is_dir():
        return
    above = next(parent for parent in root.absolute().parents if parent.is_dir())
    wanted = root.absolute().relative_to(above).parts[0]
    near = get_close_matches(wanted, [entry.name for entry in _entries(above) if entry.is_dir()], n=1)
    hint = f"the nearest name is {above / near[0]}" if near else f"{above} exists, but has no {wanted!r}"
    raise FileNotFoundError(f"{key}: there is no such folder; {hint}")


def _split_folders(root: Path, key: str, listing: Listing) -> dict[str, Path]:
    """The folder of each split; one "train" with everything where the root holds the classes themselves."""
    folders = [entry for entry in _entries(root) if entry.is_dir()]
    named = [entry for entry in folders if entry.name.lower() in _SPLIT_FOLDERS]
    if not named or not _holds_classes(named, folders):
        return {"train": root}
    found: dict[str, Path] = {}
    for entry in named:
        split = _SPLIT_FOLDERS[entry.name.lower()]
        if split in found:
            raise ValueError(f"{key}: {found[split].name} and {entry.name} both stand for {split}; keep one of them")
        found[split] = entry
    if "train" not in found:
        names = " and ".join(entry.name for entry in named)
        raise ValueError(f"{key}: has {names}, but no train; add {root / 'train'}, with one folder for each class")
    listing.stray += [portable(entry.name) for entry in folders if entry not in named]
    return {split: found[split] for split in ("train", "val", "test") if split in found}


def _holds_classes(named: list[Path], folders: list[Path]) -> bool:
    # Among pictures of vehicles, "train" may be a class: then it stands beside other classes and holds no folders.
    return len(named) == len(folders) or any(inner.is_dir() for entry in named for inner in _entries(entry))


def _classes(folder: Path, key: str, listing: Listing) -> dict[str, list[Path]]:
    classes: dict[str, list[Path]] = {}
    for entry in _entries(folder):
        name = portable(entry.name)
        if not entry.is_dir():
            if entry.suffix.lower() in EXTENSIONS:
                listing.stray.append(name)
            continue
        if name in classes:
            raise ValueError(f"{key}: two folders in {folder.name} are both called {name!r}; rename one")
        classes[name] = _sorted(_images_below(entry, frozenset(), listing.ignored))
    return dict(sorted(classes.items()))


def _images_below(folder: Path, above: frozenset[str], ignored: Counter[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in above:  # a link back to a folder that it lies in
        return
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _images_below(entry, above | {real}, ignored)
        elif entry.suffix.lower() in EXTENSIONS:
            yield entry
        else:
            ignored[entry.suffix.lower() or "no extension"] += 1


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, without hidden files and system clutter, in the order of the names."""
    return _sorted(e for e in folder.iterdir() if not e.name.startswith(".") and e.name.lower() not in _CLUTTER)


def _sorted(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: [portable(part) for part in path.parts])
