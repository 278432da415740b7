"""A linear classifier that is solved for: multinomial logistic regression by L-BFGS, without Lightning."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Solution:
    """A linear classifier, as float32: weight (classes, D) and bias (classes,), None where it has none."""

    C: float
    weight: Tensor
    bias: Tensor | None
    converged: bool


def solve_logistic(
    features: Tensor, labels: Tensor, strength: float, max_iterations: int, classes: int, bias: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Weight (classes, D) and bias (classes,) of one logistic regression, of strength C; see `solutions`."""
    solution = next(solutions(features, labels, (strength,), max_iterations, classes, bias))
    return solution.weight, solution.bias


def solutions(
    features: Tensor, labels: Tensor, strengths: Sequence[float], max_iterations: int, classes: int, bias: bool = True
) -> Iterator[Solution]:
    """Solve for each strength, from the smallest to the largest, each from the solution before it.

    Of two classes scikit-learn fits one row, w; the two rows here are -w/2 and w/2, which give the same probabilities.
    A class without samples takes part with a sample that weighs nothing: it comes out as improbable as it can be.

    Args:
        features: (N, D).
        labels: (N,) class indices.
        strengths: values of C, the inverse of the L2 regularisation.
        max_iterations: of L-BFGS, for each C.
        classes: rows of the solution.
        bias: fit an intercept, which is not regularised.
    """
    from sklearn.exceptions import ConvergenceWarning  # half a second, which most runs need not wait
    from sklearn.linear_model import LogisticRegression

    x, y = features.detach().cpu().double().numpy(), labels.detach().cpu().numpy()
    weights = None
    if missing := sorted(set(range(classes)) - set(y.tolist())):
        weights = np.repeat([1.0, 0.0], [len(y), len(missing)])
        x, y = np.vstack([x, np.zeros((len(missing), x.shape[1]))]), np.append(y, missing)
    solver = LogisticRegression(max_iter=max_iterations, fit_intercept=bias, warm_start=True)
    for strength in sorted(strengths):
        with warnings.catch_warnings():
            # The same is in n_iter_: the caller says it once, for all strengths.
            warnings.simplefilter("ignore", ConvergenceWarning)
            solver.set_params(C=strength).fit(x, y, sample_weight=weights)
        converged = int(np.max(solver.n_iter_)) < max_iterations
        yield Solution(strength, _rows(solver.coef_), _rows(solver.intercept_) if bias else None, converged)


def _rows(fitted: Any) -> Tensor:
    """A row for each class, where scikit-learn has a single one for two classes."""
    rows = np.stack([-fitted[0], fitted[0]]) / 2 if len(fitted) == 1 else fitted
    return torch.from_numpy(rows.astype(np.float32))
