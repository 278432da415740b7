import threading

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from thawlab.tracking.plots import confusion_matrix, learning_curves

# What matplotlib would read as a formula, some of which it cannot; signs that its font lacks, and orders to a terminal.
HOSTILE = [
    "$",
    "$$",
    "a $5 b",
    "$x_{1}$",
    r"$\frac{1$",
    "_{}",
    "^{",
    "\\",
    r"\alpha",
    "%",
    "",
    " ",
    "葉子",
    "ورقة",
    "🍃",
]
HOSTILE += ["\x1b[2J", "\u202e", "\udce9", "two\nlines", "x" * 300]


def ink(path):
    """How much of a picture is not white: a picture with nothing on it is a failure that raises no error."""
    pixels = np.asarray(Image.open(path).convert("L"))
    assert min(pixels.shape) > 400
    return float((pixels < 200).mean())


def history(epochs):
    return [
        {"epoch": e, "train/loss": 2 / (e + 1), "val/loss": 2.2 / (e + 1), "train/acc": e / 9, "val/acc": 0.9 * e / 9}
        for e in range(epochs)
    ]


@pytest.mark.parametrize("epochs", [1, 2, 10])
def test_learning_curves_can_be_drawn_from_one_epoch_on(tmp_path, epochs):
    learning_curves(history(epochs), tmp_path / "plots/learning_curves.png")
    assert ink(tmp_path / "plots/learning_curves.png") > 0.005


def test_learning_curves_do_without_what_was_not_measured(tmp_path):
    path = tmp_path / "curves.png"
    learning_curves([], path)
    learning_curves([{"epoch": 0, "train/loss": 1.0}, {"epoch": 1, "train/loss": np.nan}], path)
    learning_curves([{"epoch": 0, "train/loss": 1.0, "val/acc": np.nan}], path, best_epoch=7)
    assert path.exists()


def test_a_picture_does_not_depend_on_those_before_it(tmp_path):
    rows = history(5)
    learning_curves(rows, tmp_path / "first.png", 2)
    learning_curves(
        [{**row, "train/loss": np.nan, "val/loss": 40 * row["val/loss"]} for row in rows], tmp_path / "b.png"
    )
    learning_curves(rows, tmp_path / "again.png", 2)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    assert (tmp_path / "first.png").read_bytes() != (tmp_path / "b.png").read_bytes()
    few, many = np.arange(3), np.array([0, 0, 0, 0, 1, 2])
    confusion_matrix(few, few, ["a", "b", "c"], tmp_path / "few.png")
    confusion_matrix(many, many[::-1], ["a", "b", "c"], tmp_path / "many.png")
    confusion_matrix(few, few, ["a", "b", "c"], tmp_path / "few_again.png")
    assert (tmp_path / "few.png").read_bytes() == (tmp_path / "few_again.png").read_bytes()


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_a_confusion_matrix_can_be_drawn_for_few_and_many_classes(tmp_path, classes):
    labels = np.repeat(np.arange(classes), 3)
    labels[labels == 1] = 0  # a class without a sample
    confusion_matrix(labels, labels[::-1], [f"class {n}" for n in range(classes)], tmp_path / "matrix.png")
    assert ink(tmp_path / "matrix.png") > 0.005


@pytest.mark.parametrize("name", HOSTILE)
def test_a_class_may_be_called_anything(tmp_path, name):
    confusion_matrix([0, 1], [0, 1], [name, "plain"], tmp_path / "matrix.png")
    assert ink(tmp_path / "matrix.png") > 0.005


def test_drawing_leaves_no_global_state_and_works_in_threads(tmp_path):
    threads = [threading.Thread(target=learning_curves, args=(history(3), tmp_path / f"{n}.png")) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(tmp_path.glob("*.png"))) == 3
    assert plt.get_fignums() == []
