"""Holding part of a network fixed while the rest is trained, and proof afterwards that it did not move.

`requires_grad` is the only record of what is frozen: eval mode, the optimizer's groups and the audit derive from it.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor, nn

# Layers that can keep running statistics of their input; others, timm's among them, derive from these.
WITH_STATISTICS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)


class FrozenMovedError(RuntimeError):
    """Something that should have stayed fixed changed during training."""


def train_only(model: nn.Module, parameters: Collection[str]) -> None:
    """Freeze everything except the named parameters.

    Raises:
        KeyError: if a name is not a parameter of the model.
    """
    wanted = set(parameters)
    unknown = wanted - {name for name, _ in model.named_parameters()}
    if unknown:
        raise KeyError(f"not parameters of the model: {', '.join(sorted(unknown))}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in wanted)
        if name not in wanted:
            parameter.grad = None  # an optimizer would still act on a gradient left from before


def eval_frozen(model: nn.Module, batch_norm: str = "train") -> None:
    """Put what training steps leave in eval mode there: BatchNorm statistics, dropout and stochastic depth stay off.

    To be called whenever training starts or resumes: a later `train()` would undo it. Module modes are otherwise
    left as they are.
    """
    for module in held_in_eval(model, batch_norm):
        module.eval()


def held_in_eval(model: nn.Module, batch_norm: str = "train") -> Iterator[nn.Module]:
    """Modules that are in eval mode even in a training step, with all that is below them: those that are frozen.

    With `batch_norm="eval"` also each layer with running statistics, trained or not: it normalises by them and keeps
    them.
    """
    yield from frozen_modules(model)
    if batch_norm == "eval":
        yield from batch_norms(model)


def batch_norms(model: nn.Module) -> Iterator[nn.Module]:
    """Layers that keep running statistics of their input."""
    for module in model.modules():
        if isinstance(module, WITH_STATISTICS) and module.running_mean is not None:
            yield module


def frozen_modules(model: nn.Module) -> Iterator[nn.Module]:
    """Modules that hold no trainable parameter, outermost first.

    One without any parameter counts where the nearest ones with parameters, before (if any) and after it, are frozen:
    such as the dropout between a frozen embedding and frozen blocks.
    """
    between: list[nn.Module] = []
    after_trained = False
    remaining = [model]
    while remaining:
        module = remaining.pop()
        if _is_frozen(module):
            yield from between
            yield module
            between, after_trained = [], False
        elif next(module.parameters(), None) is None:
            between += [] if after_trained else [module]
        else:
            if any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
                between, after_trained = [], True
            remaining += reversed(list(module.children()))


def _is_frozen(module: nn.Module) -> bool:
    parameters = list(module.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


def frozen_state(model: nn.Module, batch_norm: str = "train") -> dict[str, Tensor]:
    """All frozen parameters, and the buffers of modules that are held in eval mode, by their names in `state_dict`."""
    state: dict[str, Tensor] = {name: value for name, value in model.named_parameters() if not value.requires_grad}
    held = {id(module) for outer in held_in_eval(model, batch_norm) for module in outer.modules()}
    for path, module in model.named_modules():
        if id(module) in held:
            for name, buffer in module.named_buffers(recurse=False):
                state[f"{path}.{name}" if path else name] = buffer
    return state


def digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """A digest of each tensor's shape, type and bits."""
    return {name: _digest(tensor) for name, tensor in tensors.items()}


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """One digest, 16 hexadecimal digits, of all the tensors and their names."""
    joined = "".join(f"{name}:{digest}\n" for name, digest in sorted(digests(tensors).items()))
    return hashlib.sha256(joined.encode()).hexdigest()[:16]


def _digest(tensor: Tensor) -> str:
    data = tensor.detach().cpu().contiguous()
    head = f"{data.dtype} {tuple(data.shape)}".encode()
    return hashlib.blake2b(head + data.flatten().view(torch.uint8).numpy().tobytes(), digest_size=16).hexdigest()


def audit(model: nn.Module, before: Mapping[str, str], batch_norm: str = "train") -> int:
    """Compare everything frozen with the digests taken before training, bit for bit.

    Returns:
        How many tensors were compared.

    Raises:
        FrozenMovedError: with the names of what moved, or was frozen then and is missing now.
    """
    now = digests(frozen_state(model, batch_norm))
    moved = sorted(name for name, digest in before.items() if now.get(name) != digest)
    if moved:
        shown = ", ".join(moved[:20]) + (f" and {len(moved) - 20} more" if len(moved) > 20 else "")
        raise FrozenMovedError(f"frozen, yet changed during training: {shown}")
    return len(before)
