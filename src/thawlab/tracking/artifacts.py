"""Files a run keeps: its predictions as a table, and the packages it ran with."""

import platform
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
import pandas as pd

from thawlab.system.atomic import write_atomically


def write_predictions(
    path: Path,
    ids: Sequence[int] | Sequence[str],
    paths: Sequence[str],
    labels: Sequence[int] | np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    hashes: Sequence[str] = (),
) -> None:
    """Write one row a sample to a Parquet file.

    The columns are `id`, `path`, `label` and `predicted` (both as class names), `hash` if it is known, and one
    probability a class, called `p/<class name>`, in the order of `classes`.

    Args:
        path: the file; its folder is made.
        ids: N sample ids.
        paths: N paths of the images, or other words for where a sample came from.
        labels: (N,) class indices.
        probabilities: (N, C), the rows summing to one.
        classes: C class names; index i is column i.
        hashes: N digests of the images' bytes, or none.

    Raises:
        ValueError: if the lengths disagree.
    """
    labels = np.asarray(labels, dtype=np.int64)
    shape = (len(labels), len(classes))
    if probabilities.shape != shape or len(ids) != len(labels) or len(paths) != len(labels):
        raise ValueError(
            f"predictions: probabilities {probabilities.shape}, {len(ids)} ids, {len(paths)} paths, "
            f"{len(labels)} labels and {len(classes)} classes disagree; expected probabilities of shape {shape}"
        )
    names = np.asarray(classes, dtype=object)
    table = pd.DataFrame(
        {"id": ids, "path": paths, "label": names[labels], "predicted": names[probabilities.argmax(axis=1)]}
    )
    if hashes:
        table["hash"] = list(hashes)
    columns = [f"p/{name}" for name in classes]
    table = pd.concat([table, pd.DataFrame(probabilities.astype(np.float32), columns=columns)], axis=1)
    write_atomically(path, lambda file: table.to_parquet(file, index=False))


def read_classes(path: Path, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The true and the predicted class index of each row that `write_predictions` wrote."""
    table = pd.read_parquet(path, columns=["label", "predicted"])
    places = {name: place for place, name in enumerate(classes)}
    return table["label"].map(places.__getitem__).to_numpy(), table["predicted"].map(places.__getitem__).to_numpy()


def environment(path: Path) -> None:
    """Write the installed packages as a requirements file, Python and the platform in its first line.

    Names and versions only: the folder, index or address that a package came from stays private.
    """
    versions = packages()
    lines = [f"# Python {platform.python_version()} on {platform.platform()}"]
    lines += [f"{name}=={versions[name]}" for name in sorted(versions, key=str.lower)]
    write_atomically(path, "\n".join(lines) + "\n")


def packages() -> dict[str, str]:
    """The version of each installed package."""
    read = [found.metadata for found in distributions()]  # once each: it parses a file
    return {found["Name"]: found["Version"] for found in read if found["Name"]}
