"""Is a network cut in two the same network? Compared by number: logits, gradients, and what a training step moves."""

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from thawlab.backbones.cut.activation import CutRefused
from thawlab.backbones.cut.module_calls import kept_modes
from thawlab.backbones.torch_internals import tree_leaves, version

# Rounding, as a share of the largest value, that two ways to compute the same in a precision may differ by.
_ROUNDING = {torch.bfloat16: 2e-2, torch.float16: 4e-3}
_ROUNDING_TF32, _ROUNDING_FLOAT32 = 2e-3, 1e-5


class Halves(Protocol):
    """A network in two parts."""

    model: nn.Module

    def prefix(self, images: Tensor) -> list[Tensor]: ...
    def suffix(self, features: Sequence[Tensor]) -> object: ...


class _Step(NamedTuple):
    logits: list[Tensor]
    gradients: list[Tensor]
    buffers: list[Tensor]


def compare(
    cut: Halves, still: Collection[nn.Module], trained: Sequence[nn.Parameter], images: Tensor
) -> tuple[float, set[int]]:
    """Compare the cut with its network in eval mode and in the modes that the modules are in.

    To be called within `untouched`.

    Args:
        cut: of a network.
        still: modules that are in eval mode in training.
        trained: parameters whose gradients are compared.
        images: (B, 3, H, W), two or more.

    Returns:
        The largest difference of any logit, and which features the suffix writes to.

    Raises:
        CutRefused: they differ, or features depend on the other images of a batch.
    """
    model, worst, overwritten = cut.model, 0.0, set()
    given = [module for module in model.modules() if module.training and module not in still]
    for modes in ([], given) if given else ([],):
        model.eval()
        for module in modes:
            module.training = True
        difference, written = _compare_step(cut, trained, images)
        worst, overwritten = max(worst, difference), overwritten | written
    model.eval()
    _compare_rows(cut, images)
    return worst, overwritten


def _compare_step(cut: Halves, trained: Sequence[nn.Parameter], images: Tensor) -> tuple[float, set[int]]:
    """The same as `compare`, in the modes that the modules are in."""
    model = cut.model
    _seed(images.device, 1)  # what the prefix draws at random must not come out as in the plain pass
    features = [each.clone() for each in cut.prefix(images)]  # one that is a view could not be written to
    versions = [version(each) for each in features]
    plain = _step(model, lambda: model(images), trained, images.device)
    try:
        ours = _step(model, lambda: cut.suffix(features), trained, images.device)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        said = str(error).partition("\n")[0]
        raise CutRefused(f"the network does not run from the cut: {type(error).__name__}: {said}") from error
    rounding = _rounding([*features, *plain.logits], images.device)
    pairs = _pairs(plain.logits, ours.logits)
    worst = max(_difference("the logits from the cut differ", *pair, rounding) for pair in pairs)
    scale = max((float(each.abs().max()) for each in plain.gradients), default=0.0)
    for pair in _pairs(plain.gradients, ours.gradients):
        _difference("the gradients from the cut differ", *pair, 10 * rounding, 1e-2 * scale)
    for pair in _pairs(plain.buffers, ours.buffers):
        _difference("the running statistics from the cut differ", *pair, rounding)
    both = zip(features, versions, strict=True)
    return worst, {i for i, (each, before) in enumerate(both) if version(each) != before}


def _compare_rows(cut: Halves, images: Tensor) -> None:
    """An image's features must not depend on its neighbours in the batch, nor land in another image's row."""
    together = cut.prefix(images)
    order = [*range(1, len(images)), 0]
    parts = [cut.prefix(images[each]) for each in (order[: len(order) // 2], order[len(order) // 2 :])]
    apart = [torch.cat(rows) for rows in zip(*parts, strict=True)]
    for one, other in zip(together, apart, strict=True):
        _difference(
            "the features of an image change with its batch", one[order], other, 10 * _rounding([one], images.device)
        )


@contextmanager
def untouched(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Put back modes, buffers and the states of random generators, whatever the block does."""
    buffers, python = _buffers(model), random.getstate()
    try:
        with kept_modes(model), torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        torch.clear_autocast_cache()  # holds copies of weights, made with or without gradients
        random.setstate(python)
        _put_back(buffers)


def _buffers(model: nn.Module) -> list[tuple[nn.Module, str, Tensor, Tensor]]:
    return [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]


def _put_back(buffers: Sequence[tuple[nn.Module, str, Tensor, Tensor]]) -> None:
    with torch.no_grad():
        for module, name, buffer, before in buffers:
            setattr(module, name, buffer)
            if not torch.equal(buffer, before):
                buffer.copy_(before)


def _step(model: nn.Module, run: Callable[[], object], trained: Sequence[nn.Parameter], device: torch.device) -> _Step:
    buffers = _buffers(model)
    with kept_modes(model):
        torch.clear_autocast_cache()  # as in `untouched`; nor may tables of an earlier pass be left
    _seed(device, 0)
    try:
        with torch.enable_grad():
            logits = [each for each in tree_leaves(run()) if isinstance(each, Tensor)]
            total = torch.stack([_projected(each) for each in logits]).sum()
        gradients: Sequence[Tensor] = ()
        if total.requires_grad and trained:
            gradients = torch.autograd.grad(total, trained, allow_unused=True, materialize_grads=True)
        moved = [getattr(module, name) for module, name, _, _ in buffers]
        return _Step(
            [each.detach() for each in logits],
            list(gradients),
            [each.clone() for each in moved if each is not None],
        )
    finally:
        _put_back(buffers)


def _projected(logits: Tensor) -> Tensor:
    """A number that depends on each logit in a way of its own, so that its gradients do."""
    weights = torch.arange(1, logits.numel() + 1, device=logits.device).sin().view_as(logits)
    return (logits.float() * weights).sum()


def _pairs(ours: list[Tensor], others: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    if [each.shape for each in ours] != [each.shape for each in others]:
        raise CutRefused("what comes from the cut has another shape")
    return list(zip(ours, others, strict=True))


def _difference(what: str, one: Tensor, other: Tensor, rounding: float, scale: float = 0.0) -> float:
    """The largest difference, refused beyond rounding: of the values, and of how much they vary over the images."""
    if torch.equal(one, other) or not one.numel():
        return 0.0
    one, other = one.double(), other.double()
    largest = float((one - other).abs().max())
    varies = float((one - one.mean(0)).abs().max()) if one.ndim else 0.0
    if not largest <= rounding * max(float(one.abs().max()), scale) + 10 * rounding * varies:
        raise CutRefused(f"{what} by {largest:.2g}")
    return largest


def _rounding(values: Sequence[Tensor], device: torch.device) -> float:
    tf32 = device.type == "cuda" and (torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32)
    return max(_ROUNDING.get(each.dtype, _ROUNDING_TF32 if tf32 else _ROUNDING_FLOAT32) for each in values)


def _seed(device: torch.device, seed: int) -> None:
    random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
