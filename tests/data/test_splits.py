import itertools
from collections import Counter

import numpy as np
import pytest

from thawlab.data.splits import nested_subset, stratified_split, too_few

SHARES = {"val": 0.15, "test": 0.2}


def case(seed: int) -> tuple[np.ndarray, list[str]]:
    """Five unbalanced classes of 3 to 80 images, about a fifth of them copies of others in the same class."""
    random = np.random.default_rng(seed)
    labels, hashes = [], []
    for label in range(5):
        count = int(random.integers(3, 80))
        own = [f"{label}-{i}" for i in range(count)]
        copies = [own[i] for i in random.integers(0, count, count // 5)]
        hashes += own + copies
        labels += [label] * (count + len(copies))
    order = random.permutation(len(labels))
    return np.array(labels)[order], [hashes[i] for i in order]


@pytest.mark.parametrize("seed", range(20))
def test_every_sample_is_in_one_part_and_no_bytes_are_in_two(seed):
    labels, hashes = case(seed)
    parts = stratified_split(labels, hashes, SHARES, seed)
    assert list(parts) == ["train", "val", "test"]
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(labels)))
    bytes_in = {part: {hashes[i] for i in positions} for part, positions in parts.items()}
    assert bytes_in["train"].isdisjoint(bytes_in["val"] | bytes_in["test"])
    assert bytes_in["val"].isdisjoint(bytes_in["test"])


@pytest.mark.parametrize("seed", range(20))
def test_every_class_is_in_every_part_at_nearly_its_share(seed):
    labels, hashes = case(seed)
    parts = stratified_split(labels, hashes, SHARES, seed)
    largest = max(Counter(hashes).values())
    for label in range(5):
        total = (labels == label).sum()
        for part, share in SHARES.items():
            found = (labels[parts[part]] == label).sum()
            assert found >= 1
            assert abs(found - share * total) <= max(1, largest)
        assert (labels[parts["train"]] == label).any()


def test_without_copies_the_shares_are_exact():
    labels = np.repeat([0, 1], [100, 20])
    parts = stratified_split(labels, [str(i) for i in range(120)], SHARES, 0)
    assert {part: np.bincount(labels[positions]).tolist() for part, positions in parts.items()} == {
        "train": [65, 13],
        "val": [15, 3],
        "test": [20, 4],
    }


def test_the_seed_alone_decides_and_the_order_of_the_samples_does_not():
    labels, hashes = case(0)
    order = np.random.default_rng(1).permutation(len(labels))

    def chosen(labels, hashes, seed):
        parts = stratified_split(labels, hashes, SHARES, seed)
        return {part: sorted(hashes[i] for i in positions) for part, positions in parts.items()}

    first = chosen(labels, hashes, 0)
    assert chosen(labels, hashes, 0) == first
    assert chosen(labels[order], [hashes[i] for i in order], 0) == first
    assert chosen(labels, hashes, 1) != first


def test_an_image_more_leaves_nearly_all_others_where_they_were():
    hashes = [str(i) for i in range(200)]
    before = stratified_split(np.zeros(200, dtype=int), hashes, SHARES, 0)
    after = stratified_split(np.zeros(201, dtype=int), [*hashes, "new"], SHARES, 0)
    where = {i: part for part, positions in before.items() for i in positions}
    moved = [i for part, positions in after.items() for i in positions if where.get(i, part) != part]
    assert len(moved) < 100


def test_the_smallest_class_that_can_be_split_is_split():
    parts = stratified_split(np.zeros(3, dtype=int), ["a", "b", "c"], SHARES, 0)
    assert [len(parts[part]) for part in ("train", "val", "test")] == [1, 1, 1]
    parts = stratified_split(np.zeros(6, dtype=int), ["a", "a", "b", "b", "c", "c"], SHARES, 0)
    assert [len(parts[part]) for part in ("train", "val", "test")] == [2, 2, 2]


def test_pinned_bytes_stay_in_train():
    hashes = [str(i) for i in range(40)]
    pinned = {"0", "1", "2", "3"}
    for seed in range(10):
        parts = stratified_split(np.zeros(40, dtype=int), hashes, {"test": 0.5}, seed, pinned)
        assert pinned <= {hashes[i] for i in parts["train"]}
        assert sorted([*parts["train"], *parts["test"]]) == list(range(40))


def test_bytes_with_two_labels_stay_together():
    labels = np.array([0] * 10 + [1] * 10)
    hashes = [str(i) for i in range(10)] * 2  # every image stands in both classes
    for seed in range(5):
        parts = stratified_split(labels, hashes, SHARES, seed)
        together = [{hashes[i] for i in positions} for positions in parts.values()]
        assert sum(map(len, together)) == 10


def test_classes_with_too_few_different_images_are_counted():
    labels = np.array([0, 0, 0, 1, 1, 1, 2, 2, 3])
    hashes = ["a", "b", "c", "d", "d", "d", "e", "f", "a"]
    assert too_few(labels, hashes, 3) == {1: 1, 2: 2, 3: 0}  # the only image of class 3 is one of class 0
    assert too_few(labels, hashes, 2, pinned={"e"}) == {1: 1, 2: 1, 3: 0}


@pytest.mark.parametrize("seed", range(5))
def test_a_smaller_share_is_part_of_a_larger_one_and_keeps_the_classes_in_proportion(seed):
    labels, hashes = case(seed)
    shares = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
    subsets = [nested_subset(labels, hashes, share, seed) for share in shares]
    for smaller, larger in itertools.pairwise(subsets):
        assert set(smaller.tolist()) <= set(larger.tolist())
    assert subsets[-1].tolist() == list(range(len(labels)))
    for share, positions in zip(shares, subsets, strict=True):
        for label, total in Counter(labels.tolist()).items():
            found = (labels[positions] == label).sum()
            assert found == max(1, int(share * total + 0.5))


def test_subsets_depend_on_the_seed_and_on_the_images_alone():
    labels, hashes = case(0)
    chosen = nested_subset(labels, hashes, 0.3, 0)
    order = np.random.default_rng(0).permutation(len(labels))
    again = nested_subset(labels[order], [hashes[i] for i in order], 0.3, 0)
    assert Counter(hashes[i] for i in chosen) == Counter(hashes[order[i]] for i in again)
    assert chosen.tolist() != nested_subset(labels, hashes, 0.3, 1).tolist()
