"""Dealing samples out to train, val and test: stratified by class, the same bytes never on two sides."""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import numpy as np


def stratified_split(
    labels: np.ndarray,
    hashes: Sequence[str],
    shares: Mapping[str, float],
    seed: int,
    pinned: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Deal samples out to "train" and to the parts named in `shares`.

    Samples with the same bytes go to the same part. Within a class the order of dealing is that of a hash of the seed
    and the bytes: it depends neither on names nor on the platform, and hardly moves when images are added.

    Args:
        labels: (n,) class of each sample.
        hashes: content hash of each sample.
        shares: part -> share of each class's samples, in (0, 1); "train" takes the rest.
        seed: another one gives another split.
        pinned: hashes that stay in train, such as those that also stand in a split that was given.

    Returns:
        Part -> sorted positions. Every class that `too_few` does not name has a sample in every part.
    """
    parts: dict[str, list[int]] = {"train": [], **{part: [] for part in shares}}
    for groups in _groups_by_class(labels, hashes).values():
        free = {h: group for h, group in groups.items() if h not in pinned}
        parts["train"] += [i for h, group in groups.items() if h in pinned for i in group]
        for part, positions in _deal(free, shares, seed).items():
            parts[part] += positions
    return {part: np.array(sorted(positions), dtype=np.int64) for part, positions in parts.items()}


def nested_subset(labels: np.ndarray, hashes: Sequence[str], share: float, seed: int) -> np.ndarray:
    """Sorted positions of a share of each class: at least one sample, and those of any smaller share among them.

    Args:
        labels: (n,) class of each sample.
        hashes: content hash of each sample, which decides with the seed on the order in which a class is drawn.
        share: in (0, 1].
        seed: another one gives other subsets.
    """
    kept: list[int] = []
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label).tolist()
        mine.sort(key=lambda i: (hashlib.sha256(f"subset {seed} {hashes[i]}".encode()).digest(), i))
        kept += mine[: max(1, int(share * len(mine) + 0.5))]
    return np.array(sorted(kept), dtype=np.int64)


def too_few(labels: np.ndarray, hashes: Sequence[str], parts: int, pinned: Collection[str] = ()) -> dict[int, int]:
    """Classes with fewer different images than there are parts to fill, with how many they have."""
    counts = {label: sum(h not in pinned for h in groups) for label, groups in _groups_by_class(labels, hashes).items()}
    return {label: count for label, count in sorted(counts.items()) if count < parts}


def _groups_by_class(labels: np.ndarray, hashes: Sequence[str]) -> dict[int, dict[str, list[int]]]:
    """Class -> hash -> positions. Bytes that carry two labels belong to the class in which they come first."""
    home: dict[str, int] = {}
    classes: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, (label, h) in enumerate(zip(labels.tolist(), hashes, strict=True)):
        classes[label]  # a class whose images all belong to another one still counts, with none of its own
        classes[home.setdefault(h, label)][h].append(i)
    return classes


def _deal(groups: Mapping[str, list[int]], shares: Mapping[str, float], seed: int) -> dict[str, list[int]]:
    total = sum(map(len, groups.values()))
    wanted = {part: max(1, int(share * total + 0.5)) for part, share in shares.items()}
    wanted = {"train": total - sum(wanted.values()), **wanted}
    dealt: dict[str, list[int]] = {part: [] for part in wanted}
    order = sorted(groups, key=lambda h: (-len(groups[h]), hashlib.sha256(f"{seed} {h}".encode()).digest()))
    for left, h in zip(range(len(order), 0, -1), order, strict=True):
        empty = [part for part in dealt if not dealt[part]]
        # The last groups are for the parts that have none yet; any other goes where most is missing.
        part = max(empty if left <= len(empty) else dealt, key=lambda name: wanted[name] - len(dealt[name]))
        dealt[part] += groups[h]
    return dealt
