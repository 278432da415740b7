"""Logistic regression as rows of a linear classifier, beside scikit-learn's own answer."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from thawlab.training.logistic import solutions, solve_logistic


def problem(classes: int) -> tuple[Tensor, Tensor]:
    """Thirty samples of five features that overlap between the classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(30) % classes
    features = rng.normal(size=(30, 5)) + labels[:, None] * np.linspace(0, 1, 5)
    return torch.from_numpy(features), torch.from_numpy(labels)


def reference(features: Tensor, labels: Tensor, strength: float, **options) -> LogisticRegression:
    """scikit-learn's answer to the last digits: by itself it stops at a gradient that is not that small yet."""
    return LogisticRegression(C=strength, max_iter=5000, tol=1e-10, **options).fit(features.numpy(), labels.numpy())


def probabilities(features: Tensor, solution: tuple[Tensor, Tensor | None]) -> np.ndarray:
    weight, bias = solution
    assert weight.dtype == torch.float32
    return torch.nn.functional.linear(features.float(), weight, bias).softmax(1).numpy()


@pytest.mark.parametrize("bias", [True, False])
def test_the_rows_are_scikit_learns(bias):
    features, labels = problem(3)
    weight, found = solve_logistic(features, labels, 0.5, 500, 3, bias)
    expected = reference(features, labels, 0.5, fit_intercept=bias)
    np.testing.assert_allclose(weight, expected.coef_, rtol=1e-4)
    if bias:
        np.testing.assert_allclose(found, expected.intercept_, rtol=1e-4)
    else:
        assert found is None


def test_two_classes_get_the_probabilities_of_the_one_row_that_scikit_learn_fits():
    features, labels = problem(2)
    found = solve_logistic(features, labels, 0.5, 500, 2)
    assert found[0].shape == (2, 5)
    expected = reference(features, labels, 0.5).predict_proba(features.numpy())
    np.testing.assert_allclose(probabilities(features, found), expected, atol=1e-6)


def test_a_class_without_samples_is_never_predicted_and_leaves_the_others_as_they_are():
    features, labels = problem(2)
    found = probabilities(features, solve_logistic(features, 2 * labels, 0.5, 500, 3))
    assert found[:, 1].max() < 1e-3
    # Rows w/2 and -w/2 are regularised half as much as the one row w for two classes: C is twice that there.
    expected = reference(features, labels, 1.0).predict_proba(features.numpy())
    np.testing.assert_allclose(found[:, [0, 2]], expected, atol=5e-3)


def test_where_all_samples_are_of_one_class_it_is_the_answer():
    features, labels = problem(2)
    found = probabilities(features, solve_logistic(features, torch.ones_like(labels), 0.5, 500, 2))
    assert found[:, 1].min() > 0.99


def test_strengths_are_solved_for_from_the_smallest_and_what_was_not_reached_is_marked():
    features, labels = problem(3)
    found = list(solutions(features, labels, (100.0, 1e-6), 3, 3))
    assert [(each.C, each.converged) for each in found] == [(1e-6, True), (100.0, False)]


@pytest.mark.parametrize(("samples", "width"), [(1500, 400), (760, 900)], ids=["more samples", "more features"])
def test_in_single_precision_the_loss_is_that_of_the_optimum(samples, width):
    """Features as a network gives them: not negative, far from zero, some of them much larger than others."""
    rng = np.random.default_rng(1)
    labels = np.arange(samples) % 4
    features = np.abs(rng.normal(size=(samples, width)) + 0.4 * rng.normal(size=(4, width))[labels])
    features *= np.geomspace(0.01, 1, width)
    given = torch.from_numpy(features), torch.from_numpy(labels)

    def loss(weight: np.ndarray, bias: np.ndarray, strength: float) -> float:
        logits = features @ weight.T + bias
        errors = np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) + logits.max(1)
        return (errors - logits[np.arange(samples), labels]).sum() + (weight**2).sum() / (2 * strength)

    for found in solutions(*given, (0.01, 1.0), 1000, 4):
        assert found.converged
        assert found.bias is not None
        expected = LogisticRegression(C=found.C, tol=1e-6, max_iter=1000).fit(features, labels)
        least = loss(expected.coef_, expected.intercept_, found.C)
        assert loss(found.weight.double().numpy(), found.bias.double().numpy(), found.C) == pytest.approx(
            least, rel=1e-3
        )


def test_features_that_say_nothing_give_the_shares_of_the_classes():
    found = probabilities(
        torch.ones(10, 3), solve_logistic(torch.ones(10, 3), torch.tensor([0] * 7 + [1] * 3), 1.0, 99, 2)
    )
    np.testing.assert_allclose(found, [[0.7, 0.3]] * 10, atol=1e-5)
