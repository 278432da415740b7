"""A head that is solved for, in a real fit on the CPU, beside scikit-learn's own answer."""

import warnings
from copy import deepcopy
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)
from small_fits import CLASSES, changed, freeze, small, state_of, trainer_settings

# isort: split
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn

from thawlab.backbones.linear_head import check_features, check_head
from thawlab.config.divergence import DivergedError
from thawlab.data.datamodule import ImageDataModule
from thawlab.strategies.phases import Logistic, Phase
from thawlab.training.logistic_probe import LogisticProbe
from thawlab.training.trainer import best_epoch, build_trainer

STRENGTHS = (1e-4, 0.01, 1.0)
NETWORKS = ("test_resnet", "test_vit", "test_convnext", "test_efficientnet")


@dataclass
class Probed:
    module: LogisticProbe
    trainer: pl.Trainer
    before: dict[str, Tensor]
    data: ImageDataModule
    reports: list[dict[str, float]] = field(default_factory=list)


def phase_for(model: nn.Module, strengths=STRENGTHS, iterations: int = 2000) -> Phase:
    return replace(freeze(model, "all"), logistic=Logistic(strengths, iterations))


@pytest.fixture
def probe(loaders, tmp_path):
    def run(model: nn.Module, phase: Phase | None = None, resume=None, **settings) -> Probed:
        phase = phase or phase_for(model)
        data = unaugmented(loaders(model))
        reports: list[dict[str, float]] = []
        module = LogisticProbe(model, len(CLASSES), phase, channels_last=False)
        trainer = build_trainer(
            trainer_settings(**settings), 1, tmp_path / "checkpoints", lambda _, row: reports.append(dict(row))
        )
        before = state_of(model)
        trainer.fit(module, data, ckpt_path=resume, weights_only=True)
        return Probed(module, trainer, before, data, reports)

    return run


def unaugmented(data: ImageDataModule) -> ImageDataModule:
    """In batches of 5, so that the sampler leaves none of the ten images out."""
    return ImageDataModule(data.data, data.eval_transform, data.eval_transform, 5, 4, workers=0, seed=1)


def parts(data: ImageDataModule):
    return {"train": data.data.train, "val": data.data.val}


def features_of(model: nn.Module, data: ImageDataModule, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Features before the classifier by timm's own way, and labels."""
    split = parts(data)[part]
    data = ImageDataModule(
        replace(data.data, val=split), data.eval_transform, data.eval_transform, 5, 64, workers=0, seed=1
    )
    images, labels, _ = next(iter(data.val_dataloader()))
    model.eval()
    with torch.no_grad():
        features = model.forward_head(model.forward_features(images), pre_logits=True)
    return features.flatten(1).double().numpy(), labels.numpy()


def accuracy(solver: LogisticRegression, features: np.ndarray, labels: np.ndarray) -> float:
    return float((solver.predict(features) == labels).mean())


def solved(features: np.ndarray, labels: np.ndarray, strength: float, **options) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=5000, tol=1e-9, **options).fit(features, labels)


def path(features: np.ndarray, labels: np.ndarray):
    solver = LogisticRegression(max_iter=5000, tol=1e-9, warm_start=True)
    for strength in STRENGTHS:
        yield solver.set_params(C=strength).fit(features, labels)


def loss(solver: LogisticRegression, features: np.ndarray, labels: np.ndarray) -> float:
    return float(-np.log(solver.predict_proba(features)[np.arange(len(labels)), labels]).mean())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_head_is_scikit_learns_answer_for_the_strength_that_validates_best(name, probe):
    model = small(name)
    probed = probe(model)
    train, val = (features_of(model, probed.data, part) for part in ("train", "val"))
    fits = [deepcopy(fit) for fit in path(*train)]
    best = max(range(len(fits)), key=lambda index: (accuracy(fits[index], *val), -loss(fits[index], *val)))

    head = model.get_classifier()
    np.testing.assert_allclose(head.weight.detach().numpy(), fits[best].coef_, atol=2e-3)
    np.testing.assert_allclose(head.bias.detach().numpy(), fits[best].intercept_, atol=2e-3)
    (report,) = probed.reports
    assert report["probe/C"] == pytest.approx(STRENGTHS[best])
    for part, data in (("train", train), ("val", val)):
        assert report[f"{part}/acc"] == pytest.approx(accuracy(fits[best], *data))
        assert report[f"{part}/loss"] == pytest.approx(loss(fits[best], *data), abs=1e-3)
    assert report["lr/head"] == 0.0
    assert report["val/balanced_acc"] == pytest.approx(balanced_accuracy_score(val[1], fits[best].predict(val[0])))
    names = {f"{part}/{name}" for part in ("train", "val") for name in ("acc", "loss")} | {"val/balanced_acc"}
    assert report.keys() == {*names, "probe/C", "lr/head", "seconds"}


@pytest.mark.parametrize("name", NETWORKS)
def test_only_the_head_changes_and_the_network_is_left_in_the_mode_it_was_in(name, probe):
    model = small(name)
    probed = probe(model)
    assert changed(probed.before, model.state_dict()) == set(freeze(model, "all").parameters)
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not linear_hooks(model)


def linear_hooks(model: nn.Module) -> list[object]:
    return [hook for module in model.modules() for hook in module._forward_pre_hooks.values()]


def test_of_strengths_of_equal_accuracy_the_one_of_the_lower_loss_is_taken_whatever_their_order(probe):
    model = small("test_resnet")
    data_phase = phase_for(model, (1000.0, 500.0, 1e-9))
    probed = probe(model, data_phase)
    train, val = (features_of(model, probed.data, part) for part in ("train", "val"))
    fits = {C: deepcopy(solved(*train, C)) for C in (1e-9, 500.0, 1000.0)}
    scores = {C: accuracy(fit, *val) for C, fit in fits.items()}
    equals = [C for C in scores if scores[C] == max(scores.values())]
    expected = min(equals, key=lambda each: loss(fits[each], *val))
    assert len(set(scores.values())) < 3  # there are equals
    assert probed.reports[0]["probe/C"] == pytest.approx(expected)


def test_the_tested_logits_are_those_of_the_solution(probe):
    model = small("test_resnet")
    probed = probe(model)
    probed.trainer.test(probed.module, probed.data, verbose=False)
    positions = np.concatenate([batch for batch, _ in probed.module.tested])
    logits = np.concatenate([batch for _, batch in probed.module.tested])
    assert positions.tolist() == list(range(7))
    images, _, _ = zip(*probed.data.test_dataloader(), strict=True)
    with torch.no_grad():
        features = model.eval().forward_head(model.forward_features(torch.cat(images)), pre_logits=True)
    expected = F.linear(features, model.fc.weight, model.fc.bias).detach().numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_both_checkpoints_hold_the_solved_head_and_a_resume_leaves_every_bit(probe):
    model = small("test_resnet")
    probed = probe(model)
    best = best_epoch(probed.trainer)
    assert (best.epoch, best.accuracy) == (0, pytest.approx(probed.reports[0]["val/acc"]))
    last = best.checkpoint.with_name("last.ckpt")
    for path in (best.checkpoint, last):
        state = torch.load(path, weights_only=True)["state_dict"]
        assert changed({f"model.{name}": value for name, value in model.state_dict().items()}, state) == set()

    other = small("test_resnet")
    resumed = probe(other, resume=last)
    assert changed(model.state_dict(), other.state_dict()) == set()
    assert resumed.reports == []
    assert best_epoch(resumed.trainer).accuracy == best.accuracy


def test_a_head_without_a_bias_gets_none(probe):
    model = small("test_resnet")
    model.fc = nn.Linear(model.fc.in_features, len(CLASSES), bias=False)
    probed = probe(model, phase_for(model, (0.01,)))
    features, labels = features_of(model, probed.data, "train")
    expected = solved(features, labels, 0.01, fit_intercept=False).coef_
    np.testing.assert_allclose(model.fc.weight.detach().numpy(), expected, atol=2e-3)


def test_a_convolution_over_one_pixel_is_solved_for_as_a_linear_layer_is(probe):
    """DPN-like: features (B, D, 1, 1), a convolution, flattened."""
    plain, convolved = small("test_resnet"), small("test_resnet")
    convolved.fc = nn.Conv2d(convolved.fc.in_features, len(CLASSES), 1)
    convolved.global_pool.flatten = nn.Identity()
    convolved.fc.register_forward_hook(lambda _module, _inputs, output: output.flatten(1))
    probe(plain)
    probe(convolved)
    assert convolved.fc.weight.shape[2:] == (1, 1)
    torch.testing.assert_close(convolved.fc.weight.flatten(1), plain.fc.weight, atol=1e-5, rtol=1e-4)


def test_an_answer_that_is_not_reached_is_said_once_with_its_strengths(probe):
    model = small("test_resnet")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        probe(model, phase_for(model, (1e-9, 10.0, 100.0), iterations=2))
    said = [str(warning.message) for warning in caught if "converge" in str(warning.message)]
    assert len(said) == 1
    assert said[0].startswith("max_iterations=2: the logistic regression has not converged for C=")
    assert "10, 100;" in said[0]
    assert not [warning for warning in caught if issubclass(warning.category, ConvergenceWarning)]


def test_a_head_that_is_no_linear_layer_is_refused_under_the_strategys_name():
    model = small("test_resnet")
    model.fc = nn.Sequential(nn.Dropout(), model.fc)
    with pytest.raises(ValueError, match=r"^strategy=lp_ft: .* its classifier is a Sequential; train the head"):
        check_head(model, "lp_ft")
    with pytest.raises(ValueError, match=r"a Sequential; use strategy.solver=gradient, or use another backbone"):
        check_head(model, "linear_probe", "use strategy.solver=gradient")


def test_a_head_that_is_not_given_one_vector_an_image_is_refused_before_training():
    model = small("test_vit").train()
    check_features(model, 32)
    model.global_pool = ""  # the head sees every patch
    with pytest.raises(ValueError, match="needs one feature vector an image, and the classifier of this network is"):
        check_features(model, 32)
    assert all(module.training for module in model.modules())
    assert not linear_hooks(model)


def test_averaged_weights_are_refused(probe):
    with pytest.raises(RuntimeError, match="cannot be averaged"):
        probe(small("test_resnet"), ema=0.9)


def test_in_mixed_precision_the_head_is_float32_and_reported_as_such_a_network_validates(probe):
    model = small("test_vit")
    probed = probe(model, precision="bf16")
    assert model.head.weight.dtype == torch.float32
    images, labels, _ = zip(*probed.data.val_dataloader(), strict=True)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = model.eval()(torch.cat(images)).float()
    (report,) = probed.reports
    assert report["val/acc"] == pytest.approx(float((logits.argmax(1) == torch.cat(labels)).float().mean()))
    assert report["val/loss"] == pytest.approx(float(F.cross_entropy(logits, torch.cat(labels))), abs=1e-2)


def test_features_that_are_not_finite_are_said_before_anything_is_solved_for(probe):
    model = small("test_resnet")
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    with pytest.raises(DivergedError, match="features of the training images are not finite"):
        probe(model)
