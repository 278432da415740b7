"""The Parquet file of a run's predictions: written, and read with checks so that nothing wrong passes for a result."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from thawlab.system.atomic import write_atomically

PREDICTIONS = "predictions/test.parquet"

_CLASS = "p/"  # before a class's name, in its column of probabilities
_NEEDED = ("id", "path", "label", "predicted")
_ROUNDING = 1e-3  # of probabilities that were kept in half precision, summed


@dataclass(frozen=True, eq=False)
class PredictionFile:
    """What a run said of every test sample, sorted by the samples' ids.

    Attributes:
        samples: digest of the ids and labels, the same for the same test set.
        ids: (N,) as text.
        paths: (N,) of the images.
        hashes: (N,) digests of their bytes, "" where the run kept none.
        classes: in the order of the run's labels.
        labels: (N,) class indices.
        predicted: (N,) class indices.
        probabilities: (N, C) float32.
    """

    samples: str
    ids: tuple[str, ...]
    paths: tuple[str, ...]
    hashes: tuple[str, ...]
    classes: tuple[str, ...]
    labels: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray


def samples_digest(path: Path) -> str:
    """`PredictionFile.samples` without the rest.

    Raises:
        ValueError: the file cannot be read, or an id stands there twice.
    """
    table = _table(path, ["id", "label"])
    ids = np.array([str(each) for each in table["id"].to_pylist()], dtype=object)
    return _digest(ids, table["label"].to_pylist(), _order(ids))


def read_predictions(path: Path) -> PredictionFile:
    """Read and check.

    Raises:
        ValueError: what is wrong with the file, in a few words.
    """
    table = _table(path)
    classes = [name.removeprefix(_CLASS) for name in table.column_names if name.startswith(_CLASS)]
    ids = np.array([str(each) for each in table["id"].to_pylist()], dtype=object)
    order = _order(ids)
    labels, predicted = table["label"].to_pylist(), table["predicted"].to_pylist()
    places = {name: place for place, name in enumerate(classes)}
    if unknown := sorted({str(name) for name in (*labels, *predicted) if name not in places}):
        raise ValueError(f"its predictions have no probabilities of the class {', '.join(unknown[:5])}")
    probabilities = _probabilities(table, classes)
    said = np.array([places[name] for name in predicted], dtype=np.int64)
    if (probabilities[np.arange(len(said)), said] < probabilities.max(axis=1) - _ROUNDING).any():
        raise ValueError("its predicted classes are not those with the highest probability")
    paths = table["path"].to_pylist()
    hashes = table["hash"].to_pylist() if "hash" in table.column_names else [""] * len(paths)
    return PredictionFile(
        samples=_digest(ids, labels, order),
        ids=tuple(ids[order]),
        paths=tuple(str(paths[place] or "") for place in order),
        hashes=tuple(str(hashes[place] or "") for place in order),
        classes=tuple(classes),
        labels=np.array([places[name] for name in labels], dtype=np.int64)[order],
        predicted=said[order],
        probabilities=probabilities[order],
    )


def read_classes(path: Path, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The true and the predicted class indices, (N,) each, and nothing else of a file that was just written.

    Raises:
        ValueError: the file cannot be read.
    """
    table = _table(path, ["label", "predicted"])
    places = {name: place for place, name in enumerate(classes)}
    labels, predicted = (
        np.array([places[name] for name in table[column].to_pylist()]) for column in ("label", "predicted")
    )
    return labels, predicted


def _table(path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            missing = [name for name in columns or _NEEDED if name not in names]
            if missing:
                raise ValueError(f"its predictions lack the column {', '.join(missing)}")
            table = file.read(columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise ValueError(f"its predictions cannot be read ({reason})") from error
    if not table.num_rows:
        raise ValueError("its predictions are of no sample")
    return table


def _order(ids: np.ndarray) -> np.ndarray:
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    twice = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(twice):
        raise ValueError(f"its predictions have {len(twice)} samples twice, for instance {ordered[twice[0]]}")
    return order


def _digest(ids: np.ndarray, labels: list[str], order: np.ndarray) -> str:
    lines = "\n".join(f"{ids[place]}\0{labels[place]}" for place in order)
    return hashlib.sha256(lines.encode()).hexdigest()[:32]


def _probabilities(table: pa.Table, classes: list[str]) -> np.ndarray:
    """(N, C)."""
    columns = [table[f"{_CLASS}{name}"].to_numpy() for name in classes]
    if not columns or not all(np.issubdtype(each.dtype, np.number) for each in columns):
        raise ValueError("its predictions have no probabilities")
    values = np.stack(columns, axis=1).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("its probabilities are NaN or infinite")
    wrong = np.abs(values.sum(axis=1, dtype=np.float64) - 1) > _ROUNDING
    if wrong.any() or values.min() < 0:
        raise ValueError(f"its probabilities do not sum to 1 ({int(wrong.sum())} of {len(values)} samples)")
    return values


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
    columns = [f"{_CLASS}{name}" for name in classes]
    table = pd.concat([table, pd.DataFrame(probabilities.astype(np.float32), columns=columns)], axis=1)
    write_atomically(path, lambda file: table.to_parquet(file, index=False))
