"""Your own images: `root/train|val|test/CLASS/*`, `root/CLASS/train|val|test/*` or `root/CLASS/*`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from thawlab.config.kinds import Kind, Mark
from thawlab.config.schema import Section
from thawlab.data.folders import portable
from thawlab.data.formats import extensions, remedies
from thawlab.data.image_folder import Listing, Splits, list_images
from thawlab.data.root_folder import check_root, folder_named
from thawlab.system.printable import printable

if TYPE_CHECKING:
    import numpy as np

    from thawlab.data.images import ImageData, Samples
    from thawlab.data.validate_files import Checked

_LISTED = 50  # bad files that an error names before it only counts


class Settings(Section):
    """Keys of `dataset` for this source; the values are in conf/dataset/folder.yaml."""

    name: Literal["folder"]
    root: Annotated[str, Kind.RUN] = Field(description="folder with the images; ~ is your home", min_length=1)
    layout: Annotated[Literal["auto", "splits", "classes"], Mark.SAME_TEST_IMAGES] = Field(
        description="what the folders in root are"
    )
    val_share: float = Field(description="share of each class for validation where none is given", gt=0, lt=0.5)
    test_share: float = Field(description="share of each class for testing where none is given", gt=0, lt=0.5)
    train_share: Annotated[float, Mark.SAME_TEST_IMAGES] = Field(
        description="share of each class's training images that is used", gt=0, le=1
    )
    split_seed: int = Field(description="seed of a split made here; not the seed of training", ge=0)
    on_bad_image: Annotated[Literal["error", "skip"], Mark.SAME_TEST_IMAGES] = Field(
        description="stop at files that are no sound image, or leave out"
    )
    max_pixels: Annotated[int, Mark.SAME_TEST_IMAGES] = Field(
        description="most pixels of an image, which take 8 bytes each to decode", gt=0
    )
    hflip: Annotated[bool, Mark.SAME_TEST_IMAGES] = Field(description="whether a mirror image keeps its label")
    draft: Annotated[bool, Mark.SAME_TEST_IMAGES] = Field(
        description="whether large JPEGs may be decoded at a fraction of their size"
    )


def check(settings: Settings) -> None:
    """Look at the root alone, which takes no time and loads nothing.

    Raises:
        OSError: it does not exist, is a file or may not be read.
        ValueError: it is empty.
    """
    key = f"dataset.root={settings.root}"
    check_root(folder_named(settings.root, key), key)


def load(settings: Settings) -> "ImageData":
    """List, check and split the images.

    Raises:
        FileNotFoundError: the root does not exist.
        NotADirectoryError: the root is a file.
        PermissionError: a folder may not be read.
        ValueError: the folders do not make up a data set, or files are no sound images.
    """
    import numpy as np

    from thawlab.data.build import assemble

    key = f"dataset.root={settings.root}"
    root = folder_named(settings.root, key)
    listing = list_images(root, key, settings.layout)
    _check_classes(listing, key)
    checked, bad = _check_files(listing.splits, root, settings.max_pixels)
    if bad and settings.on_bad_image == "error":
        raise ValueError(f"{key}: {_bad_files(bad, _LISTED)}; repair or remove, or dataset.on_bad_image=skip")
    listing = listing.only({path for path, found in checked.items() if not found.problem})
    _check_classes(listing, f"{key}, without its bad images" if bad else key)

    classes = list(listing.splits["train"])
    split_of, samples = _samples(listing.splits, classes, checked, root, settings)
    return assemble(
        portable((root.resolve() if root.name in ("", "..") else root).name),
        classes,
        samples,
        {split: np.flatnonzero(split_of == split) for split in listing.splits},
        shares={"val": settings.val_share, "test": settings.test_share},
        train_share=settings.train_share,
        seed=settings.split_seed,
        key=key,
        hflip=settings.hflip,
        notes=_notes(listing, bad),
    )


def _check_classes(listing: Listing, key: str) -> None:
    """Refuse what no classifier can be trained or scored on."""
    splits = listing.splits
    if not any(images for classes in splits.values() for images in classes.values()):
        ignored = ", ".join(f"{count} {extension}" for extension, count in listing.ignored.most_common(5))
        seen = f"found {ignored}" if ignored else "found nothing"
        stray = f", and outside any class folder {_names(listing.stray)}" if listing.stray else ""
        remedy = remedies(listing.ignored)
        raise ValueError(
            f"{key}: no images in class folders ({seen}{stray}); use {_layouts()} with {_extensions()}"
            f"{'; ' if remedy else ''}{remedy}"
        )
    for split, classes in splits.items():
        if empty := [name for name, images in classes.items() if not images]:
            raise ValueError(f"{key}: no images of {_names(empty)} in {split}; add some, or remove the folder")
    train = splits["train"]
    for split, classes in splits.items():
        if lost := [name for name in train if name not in classes]:
            raise ValueError(f"{key}: {split} lacks {_names(lost)}; add images of it, or remove the class from train")
        if new := [name for name in classes if name not in train]:
            raise ValueError(
                f"{key}: train lacks {_names(new)}, which {split} has; add images of it, or remove it there"
            )
    if len(train) == 1:
        raise ValueError(
            f"{key}: only one class, {next(iter(train))!r}; use one folder for each of at least two classes"
        )


def _check_files(splits: Splits, root: Path, max_pixels: int) -> tuple[dict[Path, "Checked"], dict[str, str]]:
    """What every file turned out to be, and the problems by identifier."""
    from thawlab.data.validate_files import check_files

    paths = [path for classes in splits.values() for images in classes.values() for path in images]
    checked = dict(zip(paths, check_files([str(path) for path in paths], max_pixels), strict=True))
    return checked, {_identifier(path, root): found.problem for path, found in checked.items() if found.problem}


def _samples(
    splits: Splits, classes: Sequence[str], checked: Mapping[Path, "Checked"], root: Path, settings: Settings
) -> tuple["np.ndarray", "Samples"]:
    """The split of each image, and all of them as samples."""
    import numpy as np

    from thawlab.data.decoding import FileReader
    from thawlab.data.images import Samples

    found = [
        (split, label, path)
        for split, images in splits.items()
        for label, name in enumerate(classes)
        for path in images[name]
    ]
    paths = [str(path) for _, _, path in found]
    hashes = [checked[path].hash for _, _, path in found]

    def reader(positions: np.ndarray) -> FileReader:
        chosen = positions.tolist()
        return FileReader(
            tuple(paths[i] for i in chosen),
            settings.draft,
            hashes=tuple(hashes[i] for i in chosen),
            max_pixels=settings.max_pixels,
        )

    samples = Samples(
        ids=[_identifier(path, root) for _, _, path in found],
        paths=[printable(path) for path in paths],
        labels=np.array([label for _, label, _ in found], dtype=np.int64),
        hashes=hashes,
        reader=reader,
    )
    return np.array([split for split, _, _ in found]), samples


def _identifier(path: Path, root: Path) -> str:
    return portable(path.relative_to(root).as_posix())


def _notes(listing: Listing, bad: Mapping[str, str]) -> list[str]:
    notes = list(listing.notes)
    if bad:
        notes.append(f"left out: {_bad_files(bad, 10)}")
    if listing.ignored:
        kinds = ", ".join(f"{extension} ({count})" for extension, count in listing.ignored.most_common())
        remedy = remedies(listing.ignored)
        notes.append(
            f"passed over, since their names do not end as an image's: {kinds}{'; ' if remedy else ''}{remedy}"
        )
    if listing.stray:
        notes.append(f"passed over, since they stand outside the class folders: {_names(listing.stray)}")
    return notes


def _bad_files(bad: Mapping[str, str], listed: int) -> str:
    some = "; ".join(f"{name} ({problem})" for name, problem in list(bad.items())[:listed])
    more = f" and {len(bad) - listed} more" if len(bad) > listed else ""
    return f"{len(bad)} {'file is' if len(bad) == 1 else 'files are'} no sound image: {some}{more}"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(map(repr, names[:10])) + more


def _layouts() -> str:
    return "root/CLASS/* or root/train/CLASS/*"


def _extensions() -> str:
    return ", ".join(sorted(extensions()))
