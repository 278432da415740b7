"""Which of the epochs is kept, against rows written out by hand."""

from math import inf, nan
from pathlib import Path

import pytest
import torch

from small_fits import freeze, recipe, small
from thawlab.config.small_data import rule_for
from thawlab.training.best_epoch import Best, BestEpoch, measure, rank
from thawlab.training.trainer import best_epoch

# (val/acc, val/loss, val/balanced_acc) of epochs 0, 1 …
TIED = [(0.667, 1.0, 0.667), (0.667, 0.6, 0.667), (0.667, 0.4, 0.667), (0.667, 0.5, 0.667)]
SAME = [(0.667, 0.5, 0.667)] * 4
OVERFIT = [(0.8, 0.5, 0.6), (0.9, 0.3, 0.7), (0.85, 0.4, 0.9), (0.85, 0.9, 0.8)]
DIVERGED = [(0.5, 0.9, 0.5), (0.9, nan, 0.9), (nan, nan, nan)]


def epochs(rows: list[tuple[float, float, float]]) -> list[Best]:
    return [Best(acc, epoch, Path("best.ckpt"), loss, balanced) for epoch, (acc, loss, balanced) in enumerate(rows)]


@pytest.mark.parametrize(
    ("rule", "rows", "chosen"),
    [
        ("acc", TIED, 2),  # of equals by accuracy the one with the lowest loss
        ("acc", SAME, 3),  # of equals in both the one that has trained for longer
        ("acc", OVERFIT, 1),
        ("loss", OVERFIT, 1),
        ("balanced_acc", OVERFIT, 2),
        ("balanced_acc", TIED, 2),
        ("last", TIED, 3),
        ("last", OVERFIT, 3),
        ("acc", DIVERGED, 0),
        ("loss", DIVERGED, 0),
        ("balanced_acc", DIVERGED, 0),
    ],
)
def test_the_epoch_that_is_kept(rule, rows, chosen):
    best = max(epochs(rows), key=lambda each: rank(rule, each))
    assert best.epoch == chosen


def test_equal_epochs_are_no_progress_for_the_patience():
    assert len({measure("acc", each) for each in epochs(TIED)}) == 1
    assert len({measure("last", each) for each in epochs(TIED)}) == 4  # the loss, which tells them apart
    assert measure("acc", epochs(DIVERGED)[1]) == -inf


def test_few_validation_images_do_not_choose_unless_they_are_told_to():
    assert (rule_for("auto", 3), rule_for("auto", 50), rule_for("auto", 5000)) == ("last", "acc", "acc")
    assert [rule_for(name, 3) for name in ("acc", "loss", "balanced_acc", "last")] == [
        "acc",
        "loss",
        "balanced_acc",
        "last",
    ]


@pytest.mark.parametrize("rule", ["acc", "loss", "balanced_acc", "last"])
def test_the_checkpoint_holds_the_epoch_that_the_rule_chooses_over_a_resume_too(rule, fit, tmp_path):
    def fitted(folder: Path, resume: Path | None, epochs: int):
        model = small("test_resnet")
        return fit(model, freeze(model, "all", epochs), recipe(), resume=resume, folder=folder, rule=rule)

    whole = fitted(tmp_path / "whole", None, 5)
    rows = [row for _, row in whole.reports]
    listed = [(row["val/acc"], row["val/loss"], row["val/balanced_acc"]) for row in rows]
    expected = max(epochs(listed), key=lambda each: rank(rule, each)).epoch
    best = best_epoch(whole.trainer)
    assert (best.epoch, best.accuracy, best.loss) == (expected, listed[expected][0], listed[expected][1])
    kept = torch.load(best.checkpoint, weights_only=True)
    assert kept["epoch"] == expected
    fitted(tmp_path / "parts", None, 2)
    resumed = fitted(tmp_path / "parts", tmp_path / "parts" / "last.ckpt", 5)
    again = best_epoch(resumed.trainer)
    assert (again.epoch, again.accuracy, again.loss) == (best.epoch, best.accuracy, best.loss)
    other = torch.load(again.checkpoint, weights_only=True)
    assert all(torch.equal(value, other["state_dict"][name]) for name, value in kept["state_dict"].items())


def test_training_that_has_stopped_early_is_not_taken_up_again_by_a_resume(fit, tmp_path):
    def fitted(resume: Path | None = None):
        model = small("test_resnet")
        never = recipe(lr=1e-12, weight_decay=0.0)
        return fit(model, freeze(model, "all", 9), never, resume=resume, folder=tmp_path, patience=2)

    first = fitted()
    assert [epoch for epoch, _ in first.reports] == [0, 1, 2]
    again = fitted(tmp_path / "last.ckpt")
    assert again.reports == []
    assert again.trainer.current_epoch == first.trainer.current_epoch == 3
    assert best_epoch(again.trainer) == best_epoch(first.trainer)


def test_what_version_0_1_0_kept_as_best_is_found_in_its_checkpoint(tmp_path):
    torch.save({"epoch": 4}, tmp_path / "best.ckpt")
    state = {"best_model_score": torch.tensor(0.75)}
    name = "ModelCheckpoint{'monitor': 'val/acc', 'mode': 'max', 'every_n_train_steps': 0, 'every_n_epochs': 1}"
    callback = BestEpoch(tmp_path, "acc", None)
    callback.on_load_checkpoint(None, None, {"callbacks": {name: state}})  # type: ignore[arg-type]
    assert callback.best is not None
    assert (callback.best.accuracy, callback.best.epoch) == (0.75, 4)
