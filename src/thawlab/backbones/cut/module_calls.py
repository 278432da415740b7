"""What a forward pass calls, and which leading calls need nothing but a given part of the parameters.

A module's own `__dict__["forward"]` stands in for its class's while a pass is watched or partly replaced, and is taken
out again. Unlike hooks this leaves the hooks that others registered where they are: around the call.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from thawlab.backbones.freezing import WITH_STATISTICS
from thawlab.backbones.torch_internals import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

# Where layers that drop something keep the probability: nn.Dropout, DropPath and DropBlock2d, PatchDropout.
_RATES = ("p", "drop_prob", "prob", "drop_rate", "rate")

Forward = Callable[..., Any]


@dataclass
class Call:
    """One call of a module in a forward pass.

    Attributes:
        path: of the module.
        index: how many calls of the module came before it in the whole pass.
        started, ended: when, on a clock that ticks at each call and each return; -1: not before the prefix was left.
        parents: the calls that it took place in.
        visible: how many calls of the module came before it where those of `leading` are not run; set there.
        leaves: the values that it returned, tensors copied.
        strides: of each leaf, as it was returned; () of what is no tensor.
        spec: how the leaves were arranged; None of a leaf alone.
    """

    path: str
    index: int
    started: int
    parents: tuple["Call", ...]
    visible: int = 0
    ended: int = -1
    leaves: Sequence[Any] = ()
    strides: Sequence[tuple[int, ...]] = ()
    spec: TreeSpec | None = None


@contextmanager
def forwards(replaced: Mapping[nn.Module, Forward]) -> Iterator[None]:
    """Have modules run other functions in place of their `forward`, for the time being."""
    before = [(module, module.__dict__.get("forward")) for module in replaced]
    try:
        for module, forward in replaced.items():
            module.__dict__["forward"] = forward
        yield
    finally:
        for module, forward in before:
            if forward is None:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = forward


@contextmanager
def kept_modes(model: nn.Module) -> Iterator[None]:
    """Put back each module's mode."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        # LeViT and its kind keep tables of their attention biases in eval mode, and drop them when train() is called.
        model.train()
        for module, training in modes:
            module.training = training


def replays(calls: Iterable[tuple[nn.Module, int, Sequence[object], TreeSpec | None]]) -> dict[nn.Module, Forward]:
    """Forwards that return what they are given, and run as ever in the calls that they are given nothing for.

    Args:
        calls: the module, how many of its calls come before, the leaves of what is returned, and their arrangement.
    """
    returned: dict[nn.Module, dict[int, object]] = {}
    for module, index, leaves, spec in calls:
        value = leaves[0] if spec is None else tree_unflatten(leaves, spec)
        returned.setdefault(module, {})[index] = value
    return {module: _replay(module.forward, values) for module, values in returned.items()}


def _replay(run: Forward, returned: dict[int, object]) -> Forward:
    count = -1

    def forward(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        return returned[count] if count in returned else run(*args, **kwargs)

    return forward


def leading_calls(model: nn.Module, images: Tensor, prefix: Collection[int]) -> list[Call]:
    """Run the model, without gradients, and find the calls that a training step above the prefix need not repeat.

    Those are outermost calls, ended before the first use of a parameter outside the prefix, of modules whose parameters
    (if any) are all in it. After the last of those with parameters, calls without any count up to the first layer that
    acts differently in training, such as a dropout.

    Args:
        model: in eval mode.
        images: (B, 3, H, W).
        prefix: ids of the parameters that stay as they are.
    """
    watch = _Watch(model, prefix)
    modules = dict(model.named_modules())
    watched = {module: watch.forward(path, module) for path, module in modules.items()}
    with torch.no_grad(), forwards(watched), watch:
        model(images)
    candidates = [call for call in watch.calls if call.ended >= 0 and modules[call.path] in watch.inside]
    last = max((call.ended for call in candidates if modules[call.path] in watch.whole), default=-1)
    end = min((call.started for call in candidates if call.started > last and _acts(modules[call.path])), default=None)
    kept = [call for call in candidates if end is None or call.ended < end]
    ids = {id(call) for call in kept}
    seen: Counter[str] = Counter()
    for call in watch.calls:
        if not ids.intersection(map(id, call.parents)):
            call.visible = seen[call.path]
            seen[call.path] += 1
    return [call for call in kept if not ids.intersection(map(id, call.parents))]


def _acts(module: nn.Module) -> bool:
    """Does the layer drop something at random, or normalise by the batch, in training mode?"""
    if isinstance(module, WITH_STATISTICS):
        return True
    if "drop" not in type(module).__name__.lower():
        return False
    rates = [rate for name in _RATES if isinstance(rate := getattr(module, name, None), int | float)]
    return not rates or any(rate > 0 for rate in rates)


class _Watch(TorchFunctionMode):
    """Notes the calls of modules, with what they return until an operation is given a parameter outside the prefix.

    Attributes:
        whole: modules with parameters, all of them in the prefix; what they call is not noted, only counted.
        inside: those, and modules without parameters.
        calls: in the order in which they started.
    """

    def __init__(self, model: nn.Module, prefix: Collection[int]) -> None:
        super().__init__()
        self.outside = {id(parameter) for parameter in model.parameters()} - {*prefix}
        owned = {module: {id(parameter) for parameter in module.parameters()} for module in model.modules()}
        self.inside = {module for module, parameters in owned.items() if not parameters & self.outside}
        self.whole = {module for module in self.inside if owned[module]}
        self.calls: list[Call] = []
        self._ended = False
        self._clock = 0
        self._running: list[Call] = []
        self._hidden = False
        self._counts: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self._ended and not self._hidden:
            self._ended = any(id(value) in self.outside for value in tree_leaves((args, kwargs)))
        return func(*args, **(kwargs or {}))

    def forward(self, path: str, module: nn.Module) -> Forward:
        """The module's forward, watched."""
        run = module.forward
        # An operation of its own making may hide from `__torch_function__` what a layer does with its parameters.
        ends = module not in self.inside and not list(module.children())

        def watched(*args: Any, **kwargs: Any) -> Any:
            index = self._counts[path]
            self._counts[path] += 1
            if self._hidden:
                return run(*args, **kwargs)
            self._ended = self._ended or ends
            self._clock += 1
            call = Call(path, index, self._clock, tuple(self._running))
            self.calls.append(call)
            self._running.append(call)
            self._hidden = module in self.whole
            returned = run(*args, **kwargs)
            self._hidden = False
            self._running.pop()
            if not self._ended:
                self._clock += 1
                call.ended = self._clock
                self._keep(call, returned)
            return returned

        return watched

    @staticmethod
    def _keep(call: Call, returned: object) -> None:
        leaves, spec = tree_flatten(returned)
        call.spec = None if spec.is_leaf() else spec
        call.strides = [leaf.stride() if isinstance(leaf, Tensor) else () for leaf in leaves]
        call.leaves = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
