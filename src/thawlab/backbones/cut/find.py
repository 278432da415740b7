"""Cutting a network in two at the freeze boundary: what is the same in every epoch, and what is trained on top.

The cut is found by running the network, not by knowing its architecture: the leading modules whose parameters all stay
as they are can be left out of a training step if their results are handed to it. Only those results that the rest works
with are kept. Nothing of this is taken on trust: see `cut_check`.
"""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from thawlab.backbones.cut.activation import CutRefused, activation
from thawlab.backbones.cut.halves import Cut, Feature, Replaced, prefixes
from thawlab.backbones.cut.module_calls import Call, forwards, leading_calls, replays
from thawlab.backbones.cut.verify import compare, untouched
from thawlab.backbones.torch_internals import tree_leaves

__all__ = ["Cut", "CutRefused", "Feature", "find_cut", "prefixes"]

LEAST_IMAGES = 5
# What stands in for results that nothing depends on, from the cheapest: for one image, or as many as there are; zeros
# that take no memory, or ones that an operation may write to.
_BLANKS = ((True, False), (True, True), (False, False), (False, True))

_NO_CALL = "no module whose parameters all stay as they are comes before what is trained"


def find_cut(model: nn.Module, prefix: Collection[str], images: Tensor) -> Cut:
    """Cut a network at the end of a part that stays as it is, and compare the cut with the whole.

    Args:
        model: in the modes, and with the parameters frozen, as training has them. It is left exactly as it was.
        prefix: names of the parameters that stay as they are.
        images: (B, 3, H, W), 5 or more, in the memory format that is going to be used; to be called under autocast
            where training is.

    Raises:
        CutRefused: the network has no such cut, or computes something else from it.
        ValueError: too few images, or no such parameters.
    """
    parameters = dict(model.named_parameters())
    if unknown := {*prefix} - {*parameters}:
        raise ValueError(f"not parameters of the model: {', '.join(sorted(unknown))}")
    if len(images) < LEAST_IMAGES:
        raise ValueError(f"{len(images)} images are too few to compare a cut on; use {LEAST_IMAGES} or more")
    if len({*prefix}) == len(parameters):
        raise CutRefused("nothing of the network is trained")
    first, second, others = images[:3], images[-2:], images[3:]
    with torch.inference_mode(False), untouched(model, images.device):
        model.eval()
        ids = {id(parameters[name]) for name in prefix}
        calls = leading_calls(model, first, ids)
        replaced = _replaced(model, calls, leading_calls(model, second, ids), (len(first), len(second)))
        cut = Cut(model, prefix, replaced, _frontier(model, calls, replaced, first), first)
    if not cut.prefix_modules:
        raise CutRefused(_NO_CALL)
    trained = [value for name, value in parameters.items() if value.requires_grad and name not in {*prefix}]
    with torch.inference_mode(False):
        _verify(cut, trained, others)
    return cut


def _replaced(model: nn.Module, calls: Sequence[Call], again: Sequence[Call], sizes: tuple[int, int]) -> list[Replaced]:
    """What two passes tell of the calls that a suffix does not run."""
    if [(call.path, call.index, call.spec) for call in calls] != [(call.path, call.index, call.spec) for call in again]:
        raise CutRefused("the network calls other modules for other images")
    modules = dict(model.named_modules())
    return [
        Replaced(
            modules[call.path],
            call.path,
            call.index,
            call.visible,
            call.spec,
            tuple(
                activation(call.path, value, strides, seen, sizes)
                for value, strides, seen in zip(call.leaves, call.strides, other.leaves, strict=True)
            ),
        )
        for call, other in zip(calls, again, strict=True)
    ]


def _frontier(
    model: nn.Module, calls: Sequence[Call], replaced: Sequence[Replaced], images: Tensor
) -> list[tuple[int, int]]:
    """The results that the logits depend on, as (number of the call, number of the result): told by gradients.

    A result without gradients, such as an index, counts if it depends on the images.
    """
    torch.clear_autocast_cache()  # holds copies of weights that were made without gradients
    leaves = [list(call.leaves) for call in calls]
    places = [
        (i, j) for i, each in enumerate(replaced) for j, value in enumerate(each.values) if value.axis is not None
    ]
    sources = {(i, j): leaves[i][j].requires_grad_() for i, j in places if replaced[i].values[j].differentiable}
    if not sources:
        raise CutRefused(_NO_CALL)
    with torch.enable_grad():
        for (i, j), source in sources.items():
            leaves[i][j] = source.clone()  # a layer may write to it
        with forwards(
            replays((each.module, each.visible, row, each.spec) for each, row in zip(replaced, leaves, strict=True))
        ):
            logits = [each for each in tree_leaves(model(images)) if isinstance(each, Tensor)]
        total = torch.stack([each.float().sum() for each in logits]).sum()
    gradients = [None for _ in sources]
    if total.requires_grad:
        gradients = torch.autograd.grad(total, list(sources.values()), allow_unused=True)
    unused = {place for place, gradient in zip(sources, gradients, strict=True) if gradient is None}
    if unused == {*sources}:
        raise CutRefused("nothing that its leading modules compute reaches the logits")
    return [place for place in places if place not in unused]


def _verify(cut: Cut, trained: Sequence[nn.Parameter], images: Tensor) -> None:
    """Compare with the whole network, with the cheapest blanks that serve.

    Raises:
        CutRefused: none do.
    """
    reasons = []
    for thin, dense in _BLANKS:
        cut.use_blanks(thin, dense)
        try:
            with untouched(cut.model, images.device):
                cut.difference, cut.overwritten = compare(cut, cut.still, trained, images)
            cut.use_blanks(thin, dense)
            return
        except CutRefused as refused:
            reasons.append(refused)
    raise reasons[-2]  # with blanks as large as the batch, the fault is not theirs
