"""The predictions of all runs of a comparison, of the same test samples in the same order."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thawlab.compare.comparison import Configuration, Excluded
from thawlab.compare.select.same_test_set import Tested, images_of, refuse_different
from thawlab.tracking.prediction_files import PredictionFile, read_predictions
from thawlab.tracking.results import prediction_file
from thawlab.tracking.select_runs import RunRecord
from thawlab.tracking.store import Store


@dataclass(frozen=True, eq=False)
class ConfigurationPredictions:
    """What the runs of a configuration say.

    Attributes:
        runs: S of its runs, in their order: those whose predictions can be used, maybe none.
        predicted: (S, N) class indices.
        probabilities: (S, N, C) float32.
    """

    runs: tuple[RunRecord, ...]
    predicted: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True, eq=False)
class PredictionSet:
    """The predictions of a comparison.

    Attributes:
        ids: of the N test samples, sorted.
        paths: of their images, as the first run recorded them.
        hashes: digests of their bytes, as that run recorded them; "" where it did not.
        labels: (N,) class indices.
        classes: C names.
        configurations: one for each that was asked for, in its order.
        excluded: runs whose predictions cannot be used, which may well have metrics.
    """

    ids: tuple[str, ...]
    paths: tuple[str, ...]
    hashes: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    configurations: tuple[ConfigurationPredictions, ...]
    excluded: tuple[Excluded, ...]


def read(store: Store, configurations: Sequence[Configuration]) -> PredictionSet:
    """Read what the runs of these configurations kept; 20 ms and 4·N·C bytes a run.

    Raises:
        ConfigError: their test sets differ; which runs have which.
    """
    found: dict[str, PredictionFile] = {}
    excluded: dict[str, str] = {}
    first: dict[str, PredictionFile] = {}
    sets: dict[Tested, list[RunRecord]] = {}
    runs = [run for each in configurations for run in each.runs]
    for run in runs:
        samples = ""
        try:
            file = _read(store, run)
            found[run.run_id] = file = _sharing(file, first.setdefault(file.samples, file))
            samples = file.samples
        except ValueError as error:
            excluded[run.run_id] = str(error)
        sets.setdefault(images_of(run, samples), []).append(run)
    refuse_different(sets)
    model = _model(list(found.values()))
    if model is None:
        nothing = ConfigurationPredictions((), np.empty((0, 0), np.int64), np.empty((0, 0, 0), np.float32))
        told = tuple(Excluded(run, excluded[run.run_id]) for run in runs)
        return PredictionSet((), (), (), np.empty(0, np.int64), (), (nothing,) * len(configurations), told)
    for run_id, file in list(found.items()):
        if set(file.classes) != set(model.classes):
            excluded[run_id] = _other_classes(file, model)
            del found[run_id]
    return PredictionSet(
        ids=model.ids,
        paths=model.paths,
        hashes=model.hashes,
        labels=model.labels,
        classes=model.classes,
        configurations=tuple(_predicted(each.runs, found, model) for each in configurations),
        excluded=tuple(Excluded(run, excluded[run.run_id]) for run in runs if run.run_id in excluded),
    )


def _read(store: Store, run: RunRecord) -> PredictionFile:
    path = prediction_file(store, run)
    if path is None:
        raise ValueError("no predictions")
    return read_predictions(path)


def _sharing(file: PredictionFile, first: PredictionFile) -> PredictionFile:
    """The same with the ids and paths of the first file of these samples, of which there is no need for many copies."""
    labels = first.labels if file.classes == first.classes else file.labels
    return PredictionFile(
        samples=file.samples,
        ids=first.ids,
        paths=first.paths,
        hashes=first.hashes,
        classes=file.classes,
        labels=labels,
        predicted=file.predicted,
        probabilities=file.probabilities,
    )


def _model(files: Sequence[PredictionFile]) -> PredictionFile | None:
    """The first file with the classes that most have."""
    often = Counter(frozenset(each.classes) for each in files)
    return max(files, key=lambda each: often[frozenset(each.classes)], default=None)


def _other_classes(file: PredictionFile, model: PredictionFile) -> str:
    lacking = sorted(set(model.classes) - set(file.classes))
    beside = sorted(set(file.classes) - set(model.classes))
    words = [f"lack the class {', '.join(lacking[:5])}"] if lacking else []
    words += [f"have a class that others lack, {', '.join(beside[:5])}"] if beside else []
    return f"its predictions {' and '.join(words)}"


def _predicted(
    runs: Sequence[RunRecord], found: dict[str, PredictionFile], model: PredictionFile
) -> ConfigurationPredictions:
    kept = [run for run in runs if run.run_id in found]
    samples, classes = model.probabilities.shape
    predicted = np.empty((len(kept), samples), np.int64)
    probabilities = np.empty((len(kept), samples, classes), np.float32)
    for place, run in enumerate(kept):
        file = found.pop(run.run_id)
        here = np.array([model.classes.index(name) for name in file.classes])  # its class c is class here[c]
        predicted[place] = here[file.predicted]
        probabilities[place][:, here] = file.probabilities
    return ConfigurationPredictions(tuple(kept), predicted, probabilities)
