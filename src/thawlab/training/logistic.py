"""A linear classifier that is solved for: multinomial logistic regression by L-BFGS, without Lightning.

The optimum is scikit-learn's, of ½‖W‖² + C · the sum of the cross-entropies, with a bias that is not regularised; the
way there is a quicker one. Features are centred, which the bias takes back exactly, and turned into the directions of
their variance, which the penalty does not see. There each coordinate is scaled by the curvature that it has, so that
L-BFGS takes a few dozen steps where it takes hundreds on the features as they are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

_EXACT = 2**19  # numbers; smaller problems are solved in float64, to the last digits, since that takes no time
_KEPT_STEPS = 20  # that L-BFGS knows the curvature from
_LEAST_CURVATURE = 1e-6


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
    A class without samples comes out as improbable as it can be.

    Args:
        features: (N, D).
        labels: (N,) class indices.
        strengths: values of C, the inverse of the L2 regularisation.
        max_iterations: of L-BFGS, for each C.
        classes: rows of the solution.
        bias: fit an intercept, which is not regularised.
    """
    problem = _Problem(features.detach().cpu(), labels.detach().cpu(), classes, bias)
    for strength in sorted(strengths):
        # Rows w/2 and -w/2 have half of the penalty that the one row w has.
        converged = problem.solve(strength / 2 if classes == 2 else strength, max_iterations)
        yield Solution(strength, *problem.rows(), converged)


class _Problem:
    """A logistic regression whose strength varies: it goes on from the solution before.

    Attributes:
        z: (N, R) float32 or float64: the centred features in the directions of their variance.
        directions: (D, R): those directions.
        weight: (classes, R) float64, of `z`.
        bias: (classes,) float64, of `z`.
    """

    def __init__(self, features: Tensor, labels: Tensor, classes: int, has_bias: bool) -> None:
        small = len(features) * min(features.shape) <= _EXACT
        features = features.to(torch.float64 if small else torch.float32)
        self.has_bias, self.labels = has_bias, labels.long()
        # Of each gradient, in coordinates of curvature 1: half of its square is left to gain, in mean losses.
        self.tolerance = 1e-6 if small else 1e-4
        self.mean = features.mean(0) if has_bias else torch.zeros_like(features[0])
        variances, self.directions = _principal(features - self.mean)
        self.z = (features - self.mean) @ self.directions
        self.variances = variances.double()  # (R,)
        self.weight = torch.zeros(classes, self.z.shape[1], dtype=torch.float64)
        self.bias = torch.zeros(classes, dtype=torch.float64)
        self.curvature = (1 - 1 / classes) / classes  # of the cross-entropy by a logit, on average

    def solve(self, strength: float, max_iterations: int) -> bool:
        """Move weight and bias to the optimum for this C; whether they are there."""
        from scipy.optimize import minimize  # which most runs need not wait for

        decay = 1 / (strength * len(self.labels))  # of the mean loss
        scale = (self.curvature * self.variances + decay).rsqrt()  # (R,)
        bias_scale = self.curvature**-0.5 if self.has_bias else 0.0

        def parts(values: np.ndarray) -> tuple[Tensor, Tensor]:
            rows = torch.from_numpy(values).view(len(self.bias), -1)
            return rows[:, :-1] * scale, rows[:, -1] * bias_scale

        def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
            weight, bias = parts(values)
            mean, by_weight, by_bias = self._mean_loss(weight, bias)
            gradient = torch.cat([(by_weight + decay * weight) * scale, by_bias[:, None] * bias_scale], 1)
            return float(mean + decay / 2 * weight.square().sum()), gradient.numpy().ravel()

        begun = torch.cat([self.weight / scale, (self.bias / (bias_scale or 1.0))[:, None]], 1).numpy().ravel()
        options = {"maxiter": max_iterations, "maxfun": 20 * max_iterations, "maxcor": _KEPT_STEPS}
        found: Any = minimize(
            loss, begun, jac=True, method="L-BFGS-B", options={**options, "gtol": self.tolerance, "ftol": 0.0}
        )
        self.weight, self.bias = parts(found.x)
        probabilities = self._logits(self.weight, self.bias).softmax(1)
        self.curvature = max(float((probabilities * (1 - probabilities)).mean()), _LEAST_CURVATURE)
        return int(found.nit) < max_iterations

    def rows(self) -> tuple[Tensor, Tensor | None]:
        """Weight (classes, D) and bias (classes,) on the features as they were given."""
        weight = self.weight @ self.directions.double().T
        bias = (self.bias - weight @ self.mean.double()).float() if self.has_bias else None
        return weight.float(), bias

    def _logits(self, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.addmm(bias.to(self.z.dtype), self.z, weight.to(self.z.dtype).T)  # (N, classes)

    def _mean_loss(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mean cross-entropy, and its gradients by weight and bias, in float64."""
        logits, right = self._logits(weight, bias), self.labels[:, None]
        total = logits.logsumexp(1)
        mean = (total - logits.gather(1, right)[:, 0]).mean(dtype=torch.float64)
        errors = (logits - total[:, None]).exp_()
        errors.scatter_add_(1, right, -torch.ones_like(right, dtype=errors.dtype))
        count = len(logits)
        return mean, (errors.T @ self.z).double() / count, errors.sum(0, dtype=torch.float64) / count


def _principal(centred: Tensor) -> tuple[Tensor, Tensor]:
    """Variances (R,) and the orthonormal directions (D, R) that belong to them, for features (N, D) of mean zero."""
    count, width = centred.shape
    tall = count >= width
    squares, vectors = torch.linalg.eigh(centred.T @ centred if tall else centred @ centred.T)
    # Of the others nothing but rounding is left; the optimum has no share in them.
    kept = squares > squares[-1].clamp(min=0) * torch.finfo(centred.dtype).eps * max(count, width)
    squares, vectors = squares[kept], vectors[:, kept]
    return squares / count, vectors if tall else (centred.T @ vectors) / squares.sqrt()
