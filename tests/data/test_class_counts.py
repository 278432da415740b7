import numpy as np
import pytest

from thawlab.data.class_counts import class_counts, in_words
from thawlab.data.images import ImageData, Split


def data(classes: list[str], *counts: list[int]) -> ImageData:
    """`counts` has the images of each class, for train, val and test."""

    def split(of_classes: list[int]) -> Split:
        labels = np.repeat(np.arange(len(classes)), of_classes)
        return Split(tuple(map(str, range(len(labels)))), ("",) * len(labels), labels, lambda _: None)  # type: ignore[arg-type, return-value]

    return ImageData("made", tuple(classes), *map(split, counts), digest="", hflip=True, image_size=None)


def test_every_class_is_named_with_its_images_in_each_split():
    found = in_words(data(["birch", "sea lion", "2"], [12, 11, 0], [1, 1, 1], [5, 0, 5]))
    assert found == "birch (12 + 1 + 5), sea lion (11 + 1 + 0), 2 (0 + 1 + 5): train + val + test"


@pytest.mark.parametrize("classes", [40, 200, 1000])
def test_of_many_classes_some_are_named_and_the_fewest_and_most_images(classes):
    names = [f"class {number:04}" for number in range(classes)]
    train = [20] * classes
    train[7], train[9] = 3, 31
    found = in_words(data(names, train, [2] * classes, [10] * classes))
    assert found.startswith("class 0000 (20 + 2 + 10), class 0001 (20 + 2 + 10), ")
    assert f"… {classes - 6} more …, class {classes - 1:04} (20 + 2 + 10): train + val + test; " in found
    assert found.endswith("from 3 (class 0007) to 31 (class 0009) training images a class")
    assert len(found) < 320


def test_a_long_name_keeps_its_ends():
    found = in_words(data(["a" * 40 + "b" * 40, "c"], [1, 1], [1, 1], [1, 1]))
    assert found.startswith("a" * 15 + "…" + "b" * 14 + " (1 + 1 + 1), c ")


def test_a_class_without_images_counts_none():
    assert class_counts(np.array([0, 2, 2]), 4) == [1, 0, 2, 0]
