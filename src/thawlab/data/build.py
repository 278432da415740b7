"""From the samples of a source to its `ImageData`: missing splits, warnings about duplicates, the digest."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from thawlab.data.images import SPLITS, ImageData, Samples
from thawlab.data.splits import nested_subset, stratified_split, too_few

_LISTED = 20  # cases that a note names before it only counts


def assemble(
    name: str,
    classes: Sequence[str],
    samples: Samples,
    given: Mapping[str, np.ndarray],
    *,
    shares: Mapping[str, float],
    seed: int,
    key: str,
    hflip: bool,
    train_share: float = 1.0,
    image_size: int | None = None,
    notes: Sequence[str] = (),
) -> ImageData:
    """Make the splits that were not given out of train, and put everything together.

    `given` holds the positions of each split that the source has, at least those of "train"; `shares` says how much
    of each class of it "val" and "test" get where they were not given. Of what is left for training, `train_share` of
    each class is used; validation and test images are the same for all shares. Errors begin with `key`.

    Raises:
        ValueError: a class has too few different images for the splits to be made.
    """
    parts = _complete(classes, samples, given, shares, seed, key)
    if train_share < 1:
        labels, hashes = samples.labels[parts["train"]], [samples.hashes[int(i)] for i in parts["train"]]
        parts["train"] = parts["train"][nested_subset(labels, hashes, train_share, seed)]
    return ImageData(
        name=name,
        classes=tuple(classes),
        **{part: samples.split(parts[part]) for part in SPLITS},
        digest=content_digest(classes, samples, parts),
        hflip=hflip,
        image_size=image_size,
        notes=(*notes, *_duplicate_notes(samples, parts)),
        test_digest=content_digest(
            classes, samples, {"test": np.array(sorted(parts["test"], key=samples.ids.__getitem__))}
        ),
    )


def content_digest(classes: Sequence[str], samples: Samples, parts: Mapping[str, np.ndarray]) -> str:
    """Digest of ids, labels, splits and image bytes, 32 hex digits (MLflow takes up to 36)."""
    digest = hashlib.sha256()
    for part in SPLITS:
        for i in map(int, parts.get(part, ())):
            record = (part, samples.ids[i], classes[int(samples.labels[i])], samples.hashes[i])
            digest.update("\0".join(record).encode() + b"\n")
    return digest.hexdigest()[:32]


def _complete(
    classes: Sequence[str],
    samples: Samples,
    given: Mapping[str, np.ndarray],
    shares: Mapping[str, float],
    seed: int,
    key: str,
) -> dict[str, np.ndarray]:
    missing = {part: shares[part] for part in SPLITS if part not in given}
    if not missing:
        return dict(given)
    pool = given["train"]
    labels, hashes = samples.labels[pool], [samples.hashes[int(i)] for i in pool]
    # What also stands in a given split stays in train: a split made here shares no image with any other.
    pinned = {samples.hashes[int(i)] for part in given if part != "train" for i in given[part]}
    if few := too_few(labels, hashes, len(missing) + 1, pinned):
        counts = ", ".join(f"{classes[label]} ({count})" for label, count in few.items())
        raise ValueError(
            f"{key}: too few different images to split {' and '.join(missing)} off train: {counts}; each class needs "
            f"at least {len(missing) + 1}; add images, or make {' and '.join(missing)} yourself"
        )
    made = stratified_split(labels, hashes, missing, seed, pinned)
    return {**given, **{part: pool[positions] for part, positions in made.items()}}


def _duplicate_notes(samples: Samples, parts: Mapping[str, np.ndarray]) -> list[str]:
    """Warnings about the same bytes in two splits, and about the same bytes under two labels."""
    copies: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for part in SPLITS:
        for i in parts[part]:
            copies[samples.hashes[int(i)]].append((part, int(i)))
    across = [where for where in copies.values() if len({part for part, _ in where}) > 1]
    torn = [where for where in copies.values() if len({samples.labels[i] for _, i in where}) > 1]
    notes = []
    if across:
        cases = [" = ".join(samples.ids[i] for _, i in where) for where in across]
        notes.append(f"the same image in more than one split, so that scores flatter ({len(across)}): {_some(cases)}")
    if torn:
        cases = [" = ".join(samples.ids[i] for _, i in where) for where in torn]
        notes.append(f"the same image in more than one class ({len(torn)}): {_some(cases)}")
    return notes


def _some(cases: Sequence[str]) -> str:
    more = f" and {len(cases) - _LISTED} more" if len(cases) > _LISTED else ""
    return "; ".join(cases[:_LISTED]) + more
