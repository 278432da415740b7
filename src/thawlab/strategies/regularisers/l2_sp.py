"""L2-SP: the distance from the source's weights, in weight space (Li, Grandvalet and Davoine 2018, arXiv:1802.01483).

alpha/2 · Σ ‖w − w⁰‖² over what was transferred, BatchNorm's weights and biases included, and beta/2 · Σ ‖w‖² over all
else that is trained: the head, and stages that start from random weights.
"""

import torch
from torch import Tensor, nn

from thawlab.strategies.l2_sp import Settings
from thawlab.strategies.regularisers.contract import PhaseStart, StepOutputs

NEEDS_IMAGES = False


def create(settings: Settings, start: PhaseStart) -> "StartingPoint":
    """The term for the parameters that are trained from now on; w⁰ are their values now."""
    trained = {name: value for name, value in start.model.named_parameters() if value.requires_grad}
    transferred = start.layers.transferred
    held = [value for name, value in trained.items() if name in transferred]
    new = [value for name, value in trained.items() if name not in transferred]
    return StartingPoint(held, new, settings.alpha, settings.beta)


class StartingPoint:
    """The term; it needs no hooks."""

    def __init__(self, held: list[nn.Parameter], new: list[nn.Parameter], alpha: float, beta: float) -> None:
        self.held = held
        self.new = new
        self.alpha = alpha
        self.beta = beta
        self.origin = [parameter.detach().clone() for parameter in held]

    def loss(self, seen: StepOutputs) -> Tensor:
        distance = [(now - then).square().sum() for now, then in zip(self.held, self.origin, strict=True)]
        size = squared_norms(self.new)
        total = seen.logits.new_zeros((), dtype=torch.float32)
        if distance:
            total = total + self.alpha / 2 * torch.stack(distance).sum()
        return total + self.beta / 2 * size if size is not None else total

    def close(self) -> None:
        """Nothing is held on to."""


def squared_norms(parameters: list[nn.Parameter]) -> Tensor | None:
    """Σ ‖w‖²; None of nothing."""
    return torch.stack([parameter.square().sum() for parameter in parameters]).sum() if parameters else None
