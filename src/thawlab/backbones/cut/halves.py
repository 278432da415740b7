"""The two halves of a network that is cut at the freeze boundary; `cut` finds out where."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from thawlab.backbones.cut.activation import Activation
from thawlab.backbones.cut.module_calls import Forward, forwards, kept_modes, replays
from thawlab.backbones.torch_internals import TreeSpec, tree_leaves


@dataclass(frozen=True)
class Feature:
    """One tensor of a cut.

    Attributes:
        call: the module that returns it: "blocks.3"; "blocks.3#1[0]" for the first of several results of a second call.
        shape: of one image, axes in the order of memory: (H, W, C) where the network is in channels-last format.
        dtype: as the prefix makes it.
    """

    call: str
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Replaced:
    """A call that the suffix does not run.

    Attributes:
        module, path: what is called.
        index, visible: how many calls of the module come before it, in a whole pass and in one of the suffix.
        spec: how the results are arranged; None of one alone.
        values: the results.
    """

    module: nn.Module
    path: str
    index: int
    visible: int
    spec: TreeSpec | None
    values: tuple[Activation, ...]


class Cut:
    """A network in two halves. The network itself is left as it is, and holds both.

    Attributes:
        model: the network.
        features: what passes from the prefix to the suffix; one tensor in most networks.
        prefix_modules: paths of the modules that the suffix does not run, of those with parameters.
        difference: by how much logits from the cut differed at most from those of the whole; 0 as a rule on a CPU.
        overwritten: which features the suffix writes to; it is given copies.
        replaced: the calls that the suffix does not run.
        kept: the features as (number of the call, number of the result).
    """

    def __init__(
        self,
        model: nn.Module,
        prefix: Collection[str],
        replaced: Sequence[Replaced],
        kept: Sequence[tuple[int, int]],
        images: Tensor,
    ) -> None:
        """Keep the results `kept`, (number of the call, number of the result), of calls made on such images."""
        self.model = model
        self.difference = 0.0
        self.overwritten: set[int] = set()
        self.features = tuple(_feature(replaced, i, j) for i, j in kept)
        paths = [each.path for each in replaced if next(each.module.parameters(), None) is not None]
        self.prefix_modules = tuple(dict.fromkeys(paths))
        self._names = frozenset(prefix)
        self.replaced, self.kept = tuple(replaced), tuple(kept)
        self._image = torch.zeros((), dtype=images.dtype).expand(1, *images.shape[1:])
        self.use_blanks(True, False)

    def prefix(self, images: Tensor) -> list[Tensor]:
        """Compute the features of images (B, 3, H, W): (B, *shape) each, without gradients. The pass ends there."""
        return prefixes([self], images)[0]

    def suffix(self, features: Sequence[Tensor]) -> Any:
        """Compute from the features of images what `model(images)` would return; gradients flow into what is trained.

        Modules run in the modes that they are in; those of the prefix count as in eval mode.
        """
        size, device = len(features[0]), features[0].device
        rows, images = self._blank(1 if self._thin else size, device)
        rows = [list(row) for row in rows]
        for number, ((i, j), feature) in enumerate(zip(self.kept, features, strict=True)):
            value = self.replaced[i].values[j]
            given = value.value(feature.to(value.dtype))
            rows[i][j] = given.clone() if number in self.overwritten else given
        calls = zip(self.replaced, rows, strict=True)
        with forwards(replays((each.module, each.visible, row, each.spec) for each, row in calls)):
            return self.model(images)

    @property
    def still(self) -> set[nn.Module]:
        """The modules that the suffix does not run, which count as in eval mode."""
        return {module for each in self.replaced for module in each.module.modules()}

    def state(self) -> dict[str, Tensor]:
        """What the features depend on besides the images: parameters and buffers, named as in `state_dict` or alike."""
        state: dict[str, Tensor] = {name: each for name, each in self.model.named_parameters() if name in self._names}
        ids, still = {id(parameter) for parameter in state.values()}, self.still
        for path, module in self.model.named_modules():
            # A buffer of a module that runs in part, such as positions that the network itself holds, counts as well.
            if module in still or any(id(parameter) in ids for parameter in module.parameters()):
                state |= {f"{path}.{name}".lstrip("."): each for name, each in module.named_buffers(recurse=False)}
        return state

    def use_blanks(self, thin: bool, dense: bool) -> None:
        """Choose what stands in for results that nothing depends on.

        Args:
            thin: for one image, whatever the size of the batch.
            dense: in memory of its own, so that an operation may write to it.
        """
        self._thin, self._dense = thin, dense
        self._blanks: tuple[tuple[int, torch.device], list[list[object]], Tensor] | None = None

    def __repr__(self) -> str:
        shapes = (f"{each.call} {'×'.join(map(str, each.shape))} {each.dtype}" for each in self.features)
        return f"Cut({', '.join(shapes).replace('torch.', '')})"

    def _blank(self, size: int, device: torch.device) -> tuple[list[list[object]], Tensor]:
        """Results that nothing depends on, and images for nobody to look at; kept from step to step."""
        if self._blanks is None or self._blanks[0] != (size, device) or self._dense:
            with torch.inference_mode(False):
                rows = [[value.blank(size, device, self._dense) for value in each.values] for each in self.replaced]
                images = self._image.to(device).expand(size, *self._image.shape[1:])
            self._blanks = ((size, device), rows, images)
        return self._blanks[1:]


class _Done(BaseException):
    """Ends a forward pass once all that is wanted has been seen."""


def prefixes(cuts: Sequence[Cut], images: Tensor) -> list[list[Tensor]]:
    """Compute the features of several cuts of one network in one forward pass, which ends at the last of them.

    Raises:
        RuntimeError: the network does not make the calls that it made when it was cut.
    """
    model = cuts[0].model
    wanted: dict[nn.Module, dict[int, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    for number, cut in enumerate(cuts):
        for position, (i, _) in enumerate(cut.kept):
            wanted[cut.replaced[i].module][cut.replaced[i].index].append((number, position))
    missing = {place for places in wanted.values() for here in places.values() for place in here}
    found: list[list[Any]] = [[None] * len(cut.kept) for cut in cuts]

    def noted(run: Forward, places: dict[int, list[tuple[int, int]]]) -> Forward:
        count = -1

        def forward(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            returned = run(*args, **kwargs)
            count += 1
            missing.difference_update(places.get(count, ()))
            for number, position in places.get(count, ()):
                i, j = cuts[number].kept[position]
                rows = cuts[number].replaced[i].values[j].rows(tree_leaves(returned)[j])
                # The pass goes on, and a later layer may write to its input.
                found[number][position] = rows.clone() if missing else rows
            if not missing:
                raise _Done
            return returned

        return forward

    with kept_modes(model):
        model.eval()
        try:
            with torch.no_grad(), forwards({module: noted(module.forward, wanted[module]) for module in wanted}):
                model(images)
        except _Done:
            return found
    raise RuntimeError(f"the network no longer calls {', '.join(cuts[n].features[p].call for n, p in sorted(missing))}")


def _feature(replaced: Sequence[Replaced], i: int, j: int) -> Feature:
    call, value = replaced[i], replaced[i].values[j]
    called = f"#{call.index}" if sum(each.path == call.path for each in replaced) > 1 else ""
    return Feature(f"{call.path}{called}" + ("" if call.spec is None else f"[{j}]"), value.row, value.dtype)
