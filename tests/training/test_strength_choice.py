"""Which C a solved head takes, and how that is said."""

from pathlib import Path

from thawlab.training.best_epoch import Best
from thawlab.training.strength_choice import best_strength, in_words

STRENGTHS = (0.01, 0.1, 1.0)


def results(*pairs: tuple[float, float]) -> list[Best]:
    """From accuracies and losses."""
    return [Best(acc, -place, Path(), loss, acc) for place, (acc, loss) in enumerate(pairs)]


def test_the_best_accuracy_is_taken_and_said():
    found = results((0.5, 1.0), (0.8, 1.5), (0.7, 0.9))
    assert best_strength("acc", found) == 1
    assert in_words("acc", found, STRENGTHS, 1) == "C=0.1 has the best val acc of 3 values of C"


def test_of_equals_that_of_the_lowest_loss_is_taken_and_the_others_are_named():
    found = results((0.8, 1.0), (0.8, 0.5), (0.8, 0.7))
    assert best_strength("acc", found) == 1
    assert in_words("acc", found, STRENGTHS, 1) == (
        "C=0.1 and 0.01, 1 share the best val acc of 3 values of C; C=0.1 is taken, which has the lowest val loss"
    )


def test_of_equals_in_everything_the_smallest_is_taken():
    found = results((0.1, 1.0), (0.8, 0.5), (0.8, 0.5))
    assert best_strength("loss", found) == 1
    assert in_words("loss", found, STRENGTHS, 1).endswith("of C; C=0.1 is taken, the smallest")


def test_a_value_at_an_end_is_said_to_be_one():
    found = results((0.9, 0.5), (0.8, 0.6), (0.7, 0.7))
    assert in_words("acc", found, STRENGTHS, 0).endswith(
        "; it is the smallest of strategy.strengths, and a smaller one may be better"
    )
    assert in_words("acc", results((0.7, 0.7), (0.8, 0.6), (0.9, 0.5)), STRENGTHS, 2).endswith(
        "; it is the largest of strategy.strengths, and a larger one may be better"
    )


def test_a_single_value_was_not_chosen():
    assert in_words("acc", results((0.5, 1.0)), (0.1,), 0) == "C=0.1, the only value in strategy.strengths"
