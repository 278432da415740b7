"""Which folder of a tree is which class of which split; what looks like something else is refused, or said."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from thawlab.data.folders import Folder, portable
from thawlab.data.split_names import is_plain, split_of

Layout = Literal["auto", "splits", "classes"]
_AS_CLASSES = "dataset.layout=classes"
_AS_SPLITS = "dataset.layout=splits"
_NAMED = 3  # folders that a message names before it only counts


@dataclass
class Arrangement:
    """Class folders by split.

    Attributes:
        splits: split -> (name of the class, its folder), in no order.
        stray: images and folders that belong to no class.
        notes: what was understood that one may have meant otherwise.
    """

    splits: dict[str, list[tuple[str, Folder]]]
    stray: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def arrange(root: Folder, key: str, layout: Layout = "auto") -> Arrangement:
    """Find the classes and splits of a tree. Errors begin with `key`, such as "dataset.root=photos".

    Raises:
        ValueError: it is no data set as it stands, or could be two.
    """
    if layout == "classes":
        return _classes(root)
    named = [folder for folder in root.folders if split_of(folder.name)]
    if named and (layout == "splits" or _are_splits(root, named, key)):
        return _of_splits(root, named, key, layout)
    if layout == "splits":
        raise ValueError(f"{key}: no folder in it is called train; make one, or leave {_AS_SPLITS} away")
    if not root.full and len(root.images) > len(root.folders):
        raise ValueError(f"{key}: {_one_class(root)}")
    inside = [folder for folder in root.full if _splits_inside(folder)]
    if inside:
        return _splits_in_classes(root, inside, key)
    _refuse_a_folder_too_high(root, key)
    return _classes(root)


def _classes(root: Folder) -> Arrangement:
    return Arrangement(
        {"train": [(folder.name, folder) for folder in root.folders]},
        [portable(path.name) for path in root.images],
        list(_notes_on_classes(root)),
    )


def _are_splits(root: Folder, named: Sequence[Folder], key: str) -> bool:
    """Whether the folders whose names are those of splits are splits, and not classes called so."""
    others = [folder for folder in root.full if folder not in named]
    holding = [folder for folder in named if folder.full]
    if not others:
        if holding or not any(folder.count for folder in named):
            return True
        one = len(named) == 1
        raise ValueError(
            f"{key}: {_and(named)} {'holds' if one else 'hold'} images, but no class folders; use "
            f"{named[0].name}/CLASS/*, or {_AS_CLASSES} if {_and(named)} {'is one' if one else 'are classes'}"
        )
    if len({split_of(folder.name) for folder in holding}) > 1:
        return True
    # Among pictures of vehicles, "train" may be a class: then it stands beside other classes and holds no folders.
    if len(named) == 1 and named[0].name.casefold() == "train":
        if not holding:
            return False
        if len(others) == 1 and len(holding[0].full) > 1:
            return True
    raise ValueError(
        f"{key}: {_and(named)} may be {'splits, or classes' if len(named) > 1 else 'a split, or a class'} beside "
        f"{_and(others)}; say which: {_AS_SPLITS} (the others are passed over) or {_AS_CLASSES}"
    )


def _of_splits(root: Folder, named: Sequence[Folder], key: str, layout: Layout) -> Arrangement:
    found: dict[str, Folder] = {}
    for folder in named:
        split = split_of(folder.name)
        assert split is not None
        if split in found:
            raise ValueError(f"{key}: {found[split].name} and {folder.name} both stand for {split}; keep one of them")
        found[split] = folder
    if "train" not in found:
        raise ValueError(
            f"{key}: has {_and(named)}, but no train; add {root.path / 'train'}, with one folder for each class"
        )
    arranged = Arrangement({}, [folder.name for folder in root.folders if folder not in named])
    for split in ("train", "val", "test"):
        if split in found:
            holder = _holder(found[split])
            _refuse_no_classes(split, holder, found[split], key)
            if layout == "auto":
                _refuse_splits_once_more(holder, key)
            arranged.splits[split] = [(folder.name, folder) for folder in holder.folders]
            arranged.stray += [f"{found[split].name}/{portable(path.name)}" for path in holder.images]
    if unusual := [f"{found[split].name} as {split}" for split in arranged.splits if not is_plain(found[split].name)]:
        arranged.notes.append(f"folders taken for splits by their names: {', '.join(unusual)}")
    return arranged


def _holder(folder: Folder) -> Folder:
    """Where the class folders of a split stand: also one folder further down, as in seg_train/seg_train/CLASS."""
    if not folder.images and len(folder.full) == 1 and not folder.full[0].images and len(folder.full[0].full) > 1:
        return folder.full[0]
    return folder


def _refuse_no_classes(split: str, holder: Folder, folder: Folder, key: str) -> None:
    if not holder.count and split != "train":
        raise ValueError(f"{key}: {folder.name} holds no images; fill it, or remove it, and {split} is split off train")
    if holder.images and not holder.full:
        raise ValueError(
            f"{key}: {folder.name} holds images, but no class folders; use {folder.name}/CLASS/*"
            + ("" if split == "train" else f", or take it away, and {split} is split off train")
        )


def _refuse_splits_once_more(holder: Folder, key: str) -> None:
    for folder in holder.full:
        if inside := _splits_inside(folder):
            raise ValueError(
                f"{key}: {folder.name} in {holder.name} holds {_and(inside)}, splits once more; rename them, or "
                f"{_AS_SPLITS} to take all below a folder as one class"
            )


def _splits_inside(folder: Folder) -> list[Folder]:
    """Folders in a class folder that are splits by their names; a lone train may as well be anything."""
    inside = [each for each in folder.full if split_of(each.name)]
    return [] if {split_of(each.name) for each in inside} <= {"train"} else inside


def _splits_in_classes(root: Folder, inside: Sequence[Folder], key: str) -> Arrangement:
    """The arrangement of CLASS/train/*; data sets beside one another, and what is mixed, are refused."""
    sets = [folder for folder in inside if all(len(each.full) > 1 for each in _splits_inside(folder))]
    if sets:
        raise ValueError(f"{key}: the splits stand further down; use {_or(str(each.path) for each in sets)}")
    _refuse_mixed(root, inside[0], key)
    arranged = Arrangement({}, [portable(path.name) for path in root.images])
    for folder in root.folders:
        own: dict[str, Folder] = {}
        for each in folder.full:
            split = split_of(each.name)
            assert split is not None
            if split in own:
                raise ValueError(f"{key}: {own[split].name} and {each.name} in {folder.name} both stand for {split}")
            own[split] = each
            arranged.splits.setdefault(split, []).append((folder.name, each))
    if "train" not in arranged.splits:
        raise ValueError(f"{key}: the class folders hold {', '.join(arranged.splits)}, but no train")
    arranged.splits = {split: arranged.splits[split] for split in ("train", "val", "test") if split in arranged.splits}
    arranged.notes.append(f"each class folder holds its own splits: {', '.join(arranged.splits)}")
    return arranged


def _refuse_mixed(root: Folder, example: Folder, key: str) -> None:
    for folder in root.full:
        mixed = [each.name for each in folder.full if not split_of(each.name)] + [path.name for path in folder.images]
        if mixed:
            raise ValueError(
                f"{key}: {example.name} holds {_splits_inside(example)[0].name}, as if each class had its own splits, "
                f"but {folder.name} holds {portable(mixed[0])!r} outside any; use CLASS/train/* and CLASS/test/* in "
                f"every class, or {_AS_CLASSES} to take all below a folder as one class"
            )


def _refuse_a_folder_too_high(root: Folder, key: str) -> None:
    """Refuse a root whose only folder with images holds the class folders."""
    if len(root.full) != 1 or root.full[0].images:
        return
    inner = root.full[0]
    while len(inner.full) == 1 and not inner.images:
        inner = inner.full[0]
    if len(inner.full) > 1:
        raise ValueError(
            f"{key}: all images lie further down, in {_and(inner.full)} of one folder; use dataset.root={inner.path}"
        )


def _one_class(root: Folder) -> str:
    above = root.path.absolute().parent if len(root.path.parts) < 2 else root.path.parent
    return (
        f"this is one class: {len(root.images)} images, and no folders of them; give the folder that holds a folder "
        f"for each class: dataset.root={above.parent if split_of(above.name) else above}"
    )


def _notes_on_classes(root: Folder) -> Iterator[str]:
    held = [tuple(folder.name for folder in each.full) for each in root.full]
    if len(held) > 1 and len(set(held)) == 1 and len(held[0]) > 1 and not any(each.images for each in root.full):
        yield (
            f"all class folders hold the same folders, {_quoted(held[0])}; if those are the classes, dataset.root is "
            "one folder too high"
        )
    if split_of(root.name):
        beside = [path.name for path in sorted(root.path.absolute().parent.iterdir()) if path.is_dir()]
        if others := [name for name in beside if split_of(name) not in (None, split_of(root.name))]:
            yield f"{_quoted(others)} beside {root.name} is not used; for the splits, give the folder that holds them"


def _quoted(names: Iterable[str]) -> str:
    listed = [repr(portable(name)) for name in names]
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more


def _and(folders: Sequence[Folder]) -> str:
    if len(folders) > _NAMED:
        return _quoted(folder.name for folder in folders)
    return " and ".join(folder.name for folder in folders)


def _or(paths: Iterable[str]) -> str:
    listed = [f"dataset.root={path}" for path in paths]
    return " or ".join(listed[:_NAMED])
