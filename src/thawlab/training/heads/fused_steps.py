"""Steps of many heads by torch's fused kernels, without what torch does around each call of one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from thawlab.backbones.torch_internals import fused_adam_, fused_sgd_


class RowAdamW(Optimizer):
    """AdamW that takes the steps of all heads in one call.

    A number's update does not depend on the learning rate but for being multiplied by it, and the decay comes before
    it. So the rate of its only group is the share of the heads' own rates that holds at the time.

    Args:
        made: an AdamW that has not taken a step, with the heads as the rows of what it moves: weights, then biases.
        rates: learning rate and weight decay of each head.
    """

    def __init__(self, made: Optimizer, rates: Sequence[tuple[float, float]]) -> None:
        super().__init__(made.param_groups, made.defaults)
        parameters = self.param_groups[0]["params"]
        own = torch.tensor(rates, dtype=torch.float64, device=parameters[0].device)  # (H, 2)
        self._lrs, self._shares = [lr for lr, _ in rates], own[:, :1]
        self._decays = own[:, :1] * own[:, 1:] if any(decay for _, decay in rates) else None
        self._taken = torch.zeros((), device=own.device)  # steps so far
        self._buffers = [[torch.zeros_like(each) for each in parameters] for _ in range(3)]

    @staticmethod
    def can_take(made: Optimizer) -> bool:
        """Whether the optimizer is one whose steps this takes."""
        return type(made) is torch.optim.AdamW and _is_plain(made)

    def rates(self) -> list[float]:
        """The present learning rate of each head."""
        return [lr * self.param_groups[0]["lr"] for lr in self._lrs]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of all heads."""
        loss = _loss(closure)
        group = self.param_groups[0]
        parameters, (updates, *moments) = group["params"], self._buffers
        for update in updates:
            update.zero_()
        self._taken += 1
        _adam(group, [updates, [each.grad for each in parameters], *moments], self._taken, 1.0)
        weights = parameters[0].flatten(1)
        if self._decays is not None:
            weights.mul_((1 - group["lr"] * self._decays).to(weights.dtype))
        shares = (group["lr"] * self._shares).to(weights.dtype)
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.flatten(1).addcmul_(update.flatten(1), shares)
        return loss


class DirectSteps(Optimizer):
    """Takes the steps of torch's fused Adam or SGD for groups whose gradients stay where they are.

    What torch does around each call of a kernel takes longer than the kernel, and there are two calls a head.

    Args:
        made: has not taken a step.
    """

    def __init__(self, made: Optimizer) -> None:
        super().__init__(made.param_groups, made.defaults)
        self._is_adam = isinstance(made, torch.optim.Adam)
        self._taken = torch.zeros((), device=self.param_groups[0]["params"][0].device)  # steps so far
        self._tensors: list[list[list[Tensor]]] = []  # of each group: parameters, gradients and two buffers of each

    @staticmethod
    def can_take(made: Optimizer) -> bool:
        """Whether the optimizer is one whose steps this takes."""
        return type(made) in (torch.optim.Adam, torch.optim.SGD) and _is_plain(made)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of all groups."""
        loss = _loss(closure)
        first = not self._tensors
        if first:
            self._tensors = [_with_buffers(group["params"]) for group in self.param_groups]
        self._taken += 1
        for group, tensors in zip(self.param_groups, self._tensors, strict=True):
            if self._is_adam:
                _adam(group, tensors, self._taken, group["lr"])
            else:
                _sgd(group, tensors[:3], first)
        return loss


def _loss(closure: Callable[[], float] | None) -> float | None:
    with torch.enable_grad():
        return None if closure is None else closure()


def _adam(group: Mapping[str, Any], tensors: Sequence[list[Tensor]], taken: Tensor, lr: float) -> None:
    beta1, beta2 = group["betas"]
    same = {key: group[key] for key in ("weight_decay", "eps", "maximize")}
    same |= {"amsgrad": False, "lr": lr, "beta1": beta1, "beta2": beta2}
    fused_adam_(*tensors, [], [taken] * len(tensors[0]), decoupled=group["decoupled_weight_decay"], **same)


def _sgd(group: Mapping[str, Any], tensors: Sequence[list[Tensor]], first: bool) -> None:
    parameters, gradients, buffers = tensors
    same = {key: group[key] for key in ("lr", "weight_decay", "momentum", "dampening", "nesterov", "maximize")}
    fused_sgd_(parameters, gradients, buffers if group["momentum"] else [], is_first_step=first, **same)


def _is_plain(made: Optimizer) -> bool:
    return all(group["fused"] and not group.get("amsgrad") for group in made.param_groups)


def _with_buffers(parameters: Sequence[Tensor]) -> list[list[Tensor]]:
    found = [each.grad for each in parameters if each.grad is not None]
    return [list(parameters), found, *([torch.zeros_like(each) for each in parameters] for _ in range(2))]
