"""A loss that is no finite number stops the run, with where it was and what to try."""

import math

import pytest

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import numpy as np
import torch
from torch import nn

from small_fits import freeze, recipe, small
from thawlab.config.divergence import DivergedError, diverged
from thawlab.launch import process
from thawlab.launch.compose import compose
from thawlab.runs import run
from thawlab.training.evaluation import check_finite


def test_a_rate_at_which_the_loss_leaves_the_numbers_stops_in_the_step_that_shows_it(fit):
    model = small("test_resnet")
    wild = recipe(optimizer="sgd", lr=1e30)
    with pytest.raises(DivergedError, match=r"^optimizer.lr=1e\+30: the training loss is not finite .* use a smaller"):
        fit(model, freeze(model, 0, epochs=3), wild, clip=None)


def test_weights_that_hold_no_numbers_are_not_blamed_on_the_rate(fit):
    model = small("test_resnet")
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    with pytest.raises(DivergedError, match=r"^epoch 1, step 1: .* before anything was trained; look at the weights"):
        fit(model, freeze(model, 0), recipe())


class OddInValidation(nn.Module):
    """A head whose logits are finite in training alone."""

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = head.weight, head.bias

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        logits = nn.functional.linear(features, self.weight, self.bias)
        return logits if self.training else logits / 0


def test_a_validation_loss_that_is_no_number_stops_the_run_before_its_epoch_is_kept(fit, tmp_path):
    model = small("test_resnet")
    model.fc = OddInValidation(model.fc)  # type: ignore[arg-type]
    with pytest.raises(DivergedError, match=r"the validation loss is not finite .* in epoch 1, the run has diverged"):
        fit(model, freeze(model, "all"), recipe())
    assert not list(tmp_path.rglob("*.ckpt"))


def test_the_message_tells_the_epoch_over_all_phases_and_the_step():
    error = diverged("training loss", 0.1, 4, 7)
    assert error.where == "epoch 4, step 7"
    assert "in epoch 4, step 7, the run has diverged; use a smaller optimizer.lr, such as 0.01" in str(error)


def test_test_logits_must_be_finite():
    logits = np.zeros((5, 3))
    check_finite(logits)
    logits[[1, 3], 0] = np.inf, np.nan
    with pytest.raises(DivergedError, match="of 2 of 5 test images is not finite"):
        check_finite(logits)


def test_a_run_that_diverges_ends_with_its_message_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def wild(_):
        raise diverged("training loss", 0.1, 2, 1)

    monkeypatch.setattr(run, "run", wild)
    job = compose(["trainer=cpu"], "train.py")
    assert job is not None
    assert process.start(job) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: optimizer.lr=0.1: the training loss is not finite")
    assert "Traceback" not in said
