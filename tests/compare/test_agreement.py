from dataclasses import replace

import numpy as np
import pytest

from thawlab.compare.agreement import table, verdict
from thawlab.tracking.prediction_files import read_predictions, write_predictions

PROBABILITIES = np.array([[0.7, 0.3], [0.4, 0.6], [0.51, 0.49], [0.1, 0.9]], np.float32)


@pytest.fixture
def kept(tmp_path):
    """Predictions as a run keeps them, and as they are read back."""

    def make(probabilities, ids=("a", "b", "c", "d"), classes=("cat", "dog"), hashes=()):
        count, file = len(probabilities), tmp_path / "p.parquet"
        write_predictions(file, ids[:count], [""] * count, [0] * count, probabilities, classes, hashes)
        return read_predictions(file)

    return make


def test_equal_probabilities_agree_bit_for_bit_in_any_order(kept):
    found = verdict(kept(PROBABILITIES), kept(PROBABILITIES[::-1], ids=("d", "c", "b", "a")))
    assert found.agrees == "exactly"
    assert found.sentence == "agrees bit for bit: all probabilities of all 4 test images are equal"


def test_rounding_agrees_and_its_size_is_told(kept):
    found = verdict(kept(PROBABILITIES), kept(PROBABILITIES + np.array([3e-5, -3e-5], np.float32)))
    assert found.agrees == "closely"
    assert "no probability is further apart than 3.0e-05 (up to 1e-04 counts as rounding)" in found.sentence


def test_another_prediction_is_a_difference_however_small(kept):
    close = np.array([[0.50001, 0.49999]], np.float32)
    found = verdict(kept(close), kept(close[:, ::-1]))
    assert (found.agrees, found.sentence) == (
        "no",
        "differs: 1 of 1 predictions differ, probabilities are up to 2.0e-05 apart",
    )


def test_probabilities_further_apart_are_a_difference_although_all_predictions_are_equal(kept):
    found = verdict(kept(PROBABILITIES), kept(PROBABILITIES + np.array([0.01, -0.01], np.float32)))
    assert found.agrees == "no"
    assert found.sentence == "differs: all 4 predictions are equal, but probabilities are up to 1.0e-02 apart"


def test_a_probability_that_is_no_number_does_not_agree_with_one_that_is(kept):
    broken = PROBABILITIES.copy()
    broken[0, 1] = np.nan
    assert verdict(kept(PROBABILITIES), replace(kept(PROBABILITIES), probabilities=broken)).agrees == "no"


def test_other_images_or_classes_are_a_difference(kept):
    assert verdict(kept(PROBABILITIES), kept(PROBABILITIES[:3])).sentence.startswith(
        "differs: 4 test images then and 3 now are not the same"
    )
    assert verdict(kept(PROBABILITIES), kept(PROBABILITIES, classes=("cat", "cow"))).agrees == "no"


def test_images_with_other_contents_are_a_difference_where_both_runs_kept_their_digests(kept):
    found = verdict(kept(PROBABILITIES, hashes="abcd"), kept(PROBABILITIES, hashes="abce"))
    assert (found.agrees, found.sentence) == ("no", "differs: 1 of the 4 test images has other contents now than then")
    assert verdict(kept(PROBABILITIES), kept(PROBABILITIES, hashes="abcd")).agrees == "exactly"


def test_metrics_stand_side_by_side_and_those_of_the_result_come_first():
    then, now = {"cost/fit_seconds": 2.0, "test/acc": 0.5, "train/loss": 1.0}, {"test/acc": 0.25, "best/val_acc": 0.5}
    assert table(then, now) == [
        ("test/acc", 0.5, 0.25),
        ("best/val_acc", None, 0.5),
        ("cost/fit_seconds", 2.0, None),
    ]
