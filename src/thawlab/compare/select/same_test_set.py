"""Whether runs were tested on the same images: scores from different ones are not compared."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from thawlab.compare.select.recorded_settings import SAME_TEST_IMAGES
from thawlab.config.schema import ConfigError
from thawlab.tracking.prediction_files import samples_digest
from thawlab.tracking.results import prediction_file
from thawlab.tracking.select_runs import RunRecord
from thawlab.tracking.store import Store

_SHOWN = 3
_TRIES = 3  # files that are looked for before a group's test set counts as unknown


@dataclass(frozen=True)
class Tested:
    """What is known of the images that a run was tested on, the surest first.

    Attributes:
        images: digest of ids, labels and the images' bytes; runs of earlier versions lack it.
        samples: digest of ids and labels in its predictions; empty without them.
        settings: of the data set, but for those that choose among the training images.
    """

    images: str
    samples: str
    settings: frozenset[tuple[str, str]]

    def same(self, other: "Tested") -> bool:
        """As far as what is known of both says."""
        if self.images and other.images:
            return self.images == other.images
        if self.samples and other.samples:
            return self.samples == other.samples
        return self.settings == other.settings


def images_of(run: RunRecord, samples: str = "") -> Tested:
    """What a run says, and its predictions if they were read."""
    settings = {key: run.params[key] for key in run.params.keys() - SAME_TEST_IMAGES if key.startswith("dataset.")}
    return Tested(run.tags.get("test_digest", ""), samples, frozenset(settings.items()))


def check_same_images(store: Store, runs: Iterable[RunRecord]) -> None:
    """Refuse runs with different test sets, and read as few of their predictions as will do.

    The training images may differ.

    Raises:
        ConfigError: which runs have which, and how to compare those that can be.
    """
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for run in runs:
        known = ("images", run.tags.get("test_digest", ""))
        # The digest of the whole data set: where it agrees, the test set does.
        whole = ("data", run.tags["dataset_digest"]) if "dataset_digest" in run.tags else ("run", run.run_id)
        groups.setdefault(known if known[1] else whole, []).append(run)
    if len(groups) < 2:
        return
    certain = all(kind == "images" for kind, _ in groups)
    found: dict[Tested, list[RunRecord]] = {}
    for members in groups.values():
        samples = "" if certain else _samples(store, members)
        found.setdefault(images_of(members[0], samples), []).extend(members)
    refuse_different(found)


def refuse_different(found: Mapping[Tested, Sequence[RunRecord]]) -> None:
    """Refuse runs with different test sets.

    Raises:
        ConfigError: which runs have which, and how to compare those that can be.
    """
    groups: list[tuple[Tested, list[RunRecord]]] = []
    for each, members in sorted(found.items(), key=lambda item: (not item[0].images, not item[0].samples)):
        alike = next((kept for first, kept in groups if first.same(each)), None)
        if alike is None:
            groups.append((each, list(members)))
        else:
            alike += members
    if len(groups) > 1:
        raise ConfigError(_message([members for _, members in groups]))


def _samples(store: Store, runs: Sequence[RunRecord]) -> str:
    for run in runs[:_TRIES]:
        path = prediction_file(store, run)
        if path is None:
            continue
        try:
            return samples_digest(path)
        except ValueError:  # another run of the group may tell
            continue
    return ""


def _message(groups: Sequence[Sequence[RunRecord]]) -> str:
    groups = sorted(groups, key=len, reverse=True)
    key = _telling(groups)
    parts = []
    for members in groups[:_SHOWN]:
        listed = ", ".join(f"{run.run_id} ({run.name})" for run in members[:_SHOWN])
        more = f" and {len(members) - _SHOWN} more" if len(members) > _SHOWN else ""
        value = f" with {key}={members[0].params[key]}" if key else ""
        if digest := members[0].tags.get("test_digest", ""):
            value += f" (test images {digest[:12]})"
        parts.append(f"{len(members)} run{'s' if len(members) > 1 else ''}{value}: {listed}{more}")
    if len(groups) > _SHOWN:
        parts.append(f"{len(groups) - _SHOWN} more test sets")
    if key:
        way = f"filter=\"params.{_quoted(key)} = '{groups[0][0].params[key]}'\""
    else:
        way = f"runs=[{','.join(run.run_id for run in groups[0][:_SHOWN])}{',…' if len(groups[0]) > _SHOWN else ''}]"
    return (
        f"runs: they were tested on {len(groups)} different sets of images, and scores on different images are not "
        f"compared; {'; '.join(parts)}; compare those of one test set, by {way}"
    )


def _telling(groups: Sequence[Sequence[RunRecord]]) -> str | None:
    """A setting that tells the groups apart, of the data set if there is one."""
    names = set(groups[0][0].params) - {"seed"}
    telling = ("dataset.name", "dataset.root", "dataset.test_share")
    first = {key: place for place, key in enumerate(telling)}
    keys = sorted(names, key=lambda key: (first.get(key, len(telling)), not key.startswith("dataset."), key))
    for key in keys:
        values = [{run.params.get(key) for run in members} for members in groups]
        if all(len(each) == 1 for each in values) and len(set.union(*values) - {None}) == len(groups):
            return key
    return None


def _quoted(key: str) -> str:
    return key if re.fullmatch(r"[\w.]+", key) else f"`{key}`"
