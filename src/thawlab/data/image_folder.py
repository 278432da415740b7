"""Finding the images of a folder tree, by split and class."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from thawlab.data.folders import Folder, read_tree
from thawlab.data.layouts import Layout, arrange
from thawlab.data.root_folder import check_root
from thawlab.data.split_names import looks_the_same, same_but_for_case
from thawlab.system.printable import printable

Splits = dict[str, dict[str, list[Path]]]  # "train", "val" or "test" -> class -> images


@dataclass
class Listing:
    """What lies below a root; every order is that of the names, so that it does not depend on the file system."""

    splits: Splits
    ignored: Counter[str] = field(default_factory=Counter)  # extension -> files passed over
    stray: list[str] = field(default_factory=list)  # images beside the class folders, folders beside the splits
    notes: list[str] = field(default_factory=list)  # how the folders were understood, where one may wonder

    def only(self, kept: Collection[Path]) -> "Listing":
        """The same without the images that are not among these; a class stays even if nothing is left of it."""
        splits = {
            split: {name: [path for path in images if path in kept] for name, images in classes.items()}
            for split, classes in self.splits.items()
        }
        return replace(self, splits=splits)


def list_images(root: Path, key: str, layout: Layout = "auto") -> Listing:
    """List the images below a root, by split and class.

    What is hidden or was left behind by a system, and files without an image's extension, are passed over; folders
    inside a class and links are followed. Errors begin with `key`, such as "dataset.root=photos".

    Raises:
        FileNotFoundError: the root does not exist.
        NotADirectoryError: the root is a file.
        PermissionError: a folder may not be read.
        ValueError: the folders make up no data set, or two stand for one split or class.
    """
    check_root(root, key)
    try:
        arranged = arrange(read_tree(root), key, layout)
    except PermissionError as error:
        name = printable(error.filename)
        raise PermissionError(f"{key}: {name} may not be read; give yourself the permission") from error
    listing = Listing({}, stray=arranged.stray, notes=arranged.notes)
    for split, folders in arranged.splits.items():
        classes = _classes(folders, key)
        listing.splits[split] = _as_in_train(classes, listing, split)
        listing.ignored.update(sum((folder.passed_over() for _, folder in folders), Counter()))
    if alike := same_but_for_case(listing.splits["train"]):
        pairs = ", ".join(" and ".join(map(repr, names)) for names in alike[:10])
        listing.notes.append(f"classes that differ by nothing but case: {pairs}")
    return listing


def _classes(folders: Iterable[tuple[str, Folder]], key: str) -> dict[str, list[Path]]:
    """The images of each class of a split; the names are without spaces at their ends."""
    classes: dict[str, list[Path]] = {}
    first: dict[str, str] = {}
    for name, folder in folders:
        shown = name.strip() or name
        other = first.setdefault(looks_the_same(name), shown)
        # Case alone may tell classes apart, such as the letters "a" and "A".
        if shown in classes or other.casefold() != shown.casefold():
            raise ValueError(f"{key}: two folders in {folder.path.parent.name} are both called {other!r}; rename one")
        classes[shown] = list(folder.below())
    return dict(sorted(classes.items()))


def _as_in_train(classes: dict[str, list[Path]], listing: Listing, split: str) -> dict[str, list[Path]]:
    """The classes of a split under the names that train has for them, where they look the same."""
    train = listing.splits.get("train", {})
    alike: dict[str, list[str]] = {}
    for name in train:
        alike.setdefault(looks_the_same(name), []).append(name)
    renamed: dict[str, list[Path]] = {}
    for name, images in classes.items():
        same = alike.get(looks_the_same(name), [])
        known = name
        if name not in train and len(same) == 1 and same[0] not in {*classes, *renamed}:
            known = same[0]
            listing.notes.append(f"{name!r} in {split} is taken for {known!r} in train")
        renamed[known] = images
    return dict(sorted(renamed.items()))
