"""Stochastic normalisation (Kou et al. 2020): a BatchNorm channel is normalised at random by its running statistics.

The layers stay the modules that they are, with the same parameters, buffers and names; only their class is another.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from thawlab.strategies.extensions.contract import Context
from thawlab.strategies.phases import Layers
from thawlab.strategies.stoch_norm import Settings

# The pass of every BatchNorm of torch's; timm's subclass adds dropout and activation to it.
_batch_norm: Callable[[Any, Tensor], Tensor] = nn.BatchNorm2d.forward


class _Stochastic(nn.Module):
    """In training, each channel is normalised by the running statistics with a probability, else by the batch's.

    These are the statistics before this step's update, as in the authors' code. The channels are drawn anew in every
    forward pass. In eval mode nothing differs from BatchNorm.
    """

    probability: float
    num_features: int
    eps: float
    weight: Tensor
    bias: Tensor
    running_mean: Tensor | None
    running_var: Tensor | None

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return _batch_norm(self, input)
        assert self.running_mean is not None
        assert self.running_var is not None
        # Copies, since the update below overwrites the statistics, and the backward pass needs those used here.
        mean, variance = self.running_mean.clone(), self.running_var.clone()
        by_batch = _batch_norm(self, input)  # moves the running statistics
        by_running = F.batch_norm(input, mean, variance, self.weight, self.bias, training=False, eps=self.eps)
        chosen = torch.rand(self.num_features, device=input.device) < self.probability
        return torch.where(chosen.view(1, -1, *[1] * (input.dim() - 2)), by_running, by_batch)


class StochNorm1d(_Stochastic, nn.BatchNorm1d):
    """For features (B, C) or (B, C, L)."""


class StochNorm2d(_Stochastic, nn.BatchNorm2d):
    """For feature maps (B, C, H, W)."""


class StochNormAct2d(_Stochastic, BatchNormAct2d):
    """For timm's layer that applies the activation, too."""

    def forward(self, input: Tensor) -> Tensor:
        normalised = super().forward(input)
        return self.get_submodule("act")(self.get_submodule("drop")(normalised))


_STOCHASTIC: dict[type[nn.Module], type[_Stochastic]] = {
    nn.BatchNorm1d: StochNorm1d,
    nn.BatchNorm2d: StochNorm2d,
    BatchNormAct2d: StochNormAct2d,
}
_PLAIN = {stochastic: plain for plain, stochastic in _STOCHASTIC.items()}


def extend(model: nn.Module, layers: Layers, settings: Settings, context: Context) -> Layers:
    """Make the BatchNorm layers above the freeze depth stochastic; the layers' names are those that they had.

    Raises:
        ValueError: there is none.
    """
    above = {name for stage in layers.trainable for name in stage.parameters}
    found = [
        module
        for path, module in model.named_modules()
        if type(module) in _STOCHASTIC
        and f"{path}.weight" in above
        and getattr(module, "running_mean", None) is not None
    ]
    if not found:
        raise ValueError(
            f"strategy={context.strategy}: this backbone has no BatchNorm above the freeze depth, and other norms keep "
            "no statistics of batches; freeze fewer stages, or use strategy=finetune"
        )
    for module in found:
        module.__class__ = _STOCHASTIC[type(module)]
        assert isinstance(module, _Stochastic)
        module.probability = settings.probability
    return layers


def export(model: nn.Module) -> None:
    """Make the layers plain BatchNorm again."""
    for module in model.modules():
        if isinstance(module, _Stochastic):
            del module.probability
            module.__class__ = _PLAIN[type(module)]  # pyright: ignore[reportAttributeAccessIssue]
