"""Filling the feature cache: one pass over the images of a split, stored at one depth or at several."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from thawlab.backbones import stages as ruler
from thawlab.backbones.cut.find import CutRefused, find_cut, prefixes
from thawlab.config.schema import Config
from thawlab.data.datamodule import ImageDataModule
from thawlab.data.feature_dataset import FeatureSet
from thawlab.data.feature_store.store import Array, CacheUnavailable, Entry, FeatureStore, Writer
from thawlab.data.images import Split
from thawlab.training.cache import keys
from thawlab.training.cache.boundary import Boundary, boundary
from thawlab.training.cache.half_precision import Context
from thawlab.training.events import Events
from thawlab.training.preparation import Prepared

# How many images a cut is compared on with the plain forward pass.
_COMPARED = 8


class NotCachedError(Exception):
    """Something goes on uncached; the message is a clause that says why."""


@dataclass
class Totals:
    """What the cache did for a run."""

    hits: int = 0  # entries that were there
    filled: int = 0  # entries that were made
    half: int = 0  # of both, computed in bfloat16 where training is in float32
    bytes: int = 0  # of both
    seconds: float = 0.0  # looking, checking, computing, writing
    images: int = 0  # sent through the prefix
    filling: float = 0.0  # seconds of `seconds` in which images were

    def metrics(self) -> dict[str, float]:
        """The same, by their names in MLflow; nothing but the cost where the cache was not used."""
        cost = {"cost/cache_seconds": self.seconds}
        if not self.hits + self.filled:
            return cost
        speed = {"cache/images_per_second": self.images / self.filling} if self.images else {}
        entries = {"cache/hits": float(self.hits), "cache/filled": float(self.filled)}
        half = {"cache/bfloat16": float(self.half)} if self.half else {}
        return {**cost, **entries, **half, "cache/mb": self.bytes / 1e6, **speed}


@dataclass(frozen=True)
class SplitPass:
    """A split to be stored, and how its images pass through the network.

    Attributes:
        name: "train", "val" or "test".
        split: its images.
        views: how many of each image; 1 means the image without any random change.
        loaders: serve the images.
        device: where the network is.
        context: what a forward pass of the run's precision runs in.
        modes: puts the modules in the modes that this use of the network wants.
        untrained: whether all stages are as they were when the run began.
    """

    name: str
    split: Split
    views: int
    loaders: ImageDataModule
    device: torch.device
    context: Context
    modes: Callable[[], object]
    untrained: bool


@dataclass(frozen=True)
class _Wanted:
    """An entry at one depth."""

    boundary: Boundary
    arrays: tuple[Array, ...]
    key: Mapping[str, object]


@dataclass
class CacheFiller:
    """Stored activations of a run's network: looked up, and computed where they are missing."""

    config: Config
    prepared: Prepared
    store: FeatureStore
    events: Events
    totals: Totals = field(default_factory=Totals)

    def boundary(self, depth: int, device: torch.device, context: Context) -> Boundary:
        """The cut above the first `depth` stages, compared with the plain forward pass on training images.

        Raises:
            CutRefused: they differ.
        """
        images = torch.cat([batch for batch, _ in self.prepared.loaders.plain_batches(_COMPARED)])
        images = self._laid_out(images, device)
        with context():
            cut = find_cut(self.prepared.network.model, prefix(self.prepared, depth), images)
        return boundary(self.config, cut, self.prepared.layers.stages[depth - 1].name, images, context)

    def row_bytes(self, found: Boundary) -> int:
        """Bytes that one image takes."""
        return sum(int(np.prod(each.shape)) * np.dtype(each.dtype).itemsize for each in self._arrays(found))

    def _arrays(self, found: Boundary) -> tuple[Array, ...]:
        return tuple(
            _array(number, feature.shape, dtype, self.config.cache.dtype)
            for number, (feature, dtype) in enumerate(zip(found.cut.features, found.dtypes, strict=True))
        )

    def _laid_out(self, images: Tensor, device: torch.device) -> Tensor:
        layout = torch.channels_last if self.config.trainer.channels_last else torch.contiguous_format
        return images.to(device, non_blocking=True).contiguous(memory_format=layout)

    def open(self, part: SplitPass, found: Boundary, depth: int) -> FeatureSet:
        """The activations of a split at a depth; computed, along with those of further depths, if they are missing."""
        wanted = self._wanted(part, found, depth)
        entry = self.store.find(wanted.key)
        if entry is not None:
            self.totals.hits += 1
        else:
            entry = self._fill(part, [wanted, *self._further(part, found.half, depth)])
        self.totals.bytes += entry.bytes
        self.totals.half += found.half
        values, served = [_tensor(entry.arrays[array.name]) for array in wanted.arrays], found.cut.features
        return FeatureSet.of(values, [each.dtype for each in served], part.split.labels, part.views, part.device)

    def _wanted(self, part: SplitPass, found: Boundary, depth: int) -> _Wanted:
        arrays = self._arrays(found)
        facts = keys.key(self.config, self.prepared, found.cut, depth, part.name, part.views, part.device)
        how = {"compute": "bfloat16"} if found.half else {}
        return _Wanted(found, arrays, {**facts, **how, "stored": [array.dtype for array in arrays]})

    def _further(self, part: SplitPass, half: bool, depth: int) -> list[_Wanted]:
        """What else is to be filled in the same pass: the depths of `cache.prefill` that are missing.

        A depth that needs another precision than this pass has is left to a run of that depth.
        """
        prefill, stages = self.config.cache.prefill, self.prepared.layers.stages
        if not part.untrained or self.prepared.plan.extension is not None:
            return []  # deeper stages are not those of the source any more
        depths = range(len(stages) + 1) if prefill == "all" else [self._depth(each) for each in prefill]
        found: list[_Wanted] = []
        self.prepared.network.model.eval()  # a deeper prefix than this run's is in training mode now
        for other in sorted({*depths} - {depth}):
            if not prefix(self.prepared, other):
                continue
            try:
                wanted = self._wanted(part, self.boundary(other, part.device, part.context), other)
            except CutRefused:
                continue  # a run of that depth will say so
            if wanted.boundary.half == half and not self.store.has(wanted.key):
                found.append(wanted)
        part.modes()
        return found

    def _depth(self, given: int | float | str) -> int:
        return ruler.depth_to_count(given, ruler.stages(self.prepared.network.model), "cache.prefill")

    def _fill(self, part: SplitPass, wanted: Sequence[_Wanted]) -> Entry:
        """Send the images through the network once, and store what comes out at the depth of each wanted entry."""
        rows = part.views * len(part.split)
        with ExitStack() as stack:
            writers: dict[str, Writer] = {}
            # All processes take the locks in one order, or two of them could wait for each other.
            for each in sorted(wanted, key=lambda each: self.store.name(each.key)):
                needed = each is wanted[0]
                with nullcontext() if needed else suppress(CacheUnavailable):  # another run may fill it, or have to
                    writers[self.store.name(each.key)] = stack.enter_context(
                        self.store.writing(each.key, rows, each.arrays, *(() if needed else (0,)))
                    )
            names = {self.store.name(each.key): each for each in wanted}
            open_ones = [names[name] for name, writer in writers.items() if writer.entry is None]
            self.totals.hits += wanted[0] not in open_ones
            if open_ones:
                begun = time.perf_counter()
                self._write(part, [(each, writers[self.store.name(each.key)]) for each in open_ones], rows)
                self.totals.filling += time.perf_counter() - begun
                self.totals.images += rows
                self.totals.filled += len(open_ones)
        entry = writers[self.store.name(wanted[0].key)].entry
        assert entry is not None
        return entry

    def _write(self, part: SplitPass, pairs: Sequence[tuple[_Wanted, Writer]], rows: int) -> None:
        row = 0
        with self.events.progress(f"filling the cache: {part.name}", rows) as advance:
            for view in range(part.views):
                for images, _, _ in part.loaders.ordered_batches(part.split, view if part.views > 1 else None):
                    with torch.no_grad(), pairs[0][0].boundary.context():
                        cuts = prefixes([each.boundary.cut for each, _ in pairs], self._laid_out(images, part.device))
                    for values, (each, writer) in zip(cuts, pairs, strict=True):
                        writer.write(row, [_rounded(*both) for both in zip(values, each.arrays, strict=True)])
                    row += len(images)
                    advance(len(images))


def prefix(prepared: Prepared, depth: int) -> frozenset[str]:
    """Names of all parameters of the first `depth` stages, the stem being one."""
    return frozenset(name for stage in prepared.layers.stages[:depth] for name in stage.parameters)


def _array(number: int, shape: tuple[int, ...], computed: torch.dtype, wanted: str) -> Array:
    """How a tensor of the cut is stored; NumPy has no bfloat16, so its bits are."""
    stored = str(computed).removeprefix("torch.") if wanted == "auto" or not computed.is_floating_point else wanted
    return Array(str(number), shape, {"bfloat16": "uint16"}.get(stored, stored))


def _rounded(value: Tensor, array: Array) -> np.ndarray:
    if array.dtype == "uint16":
        return value.to(torch.bfloat16).view(torch.uint16).cpu().numpy()
    stored = value.to(getattr(torch, array.dtype))
    if array.dtype == "float16" and value.dtype != torch.float16 and not torch.isfinite(stored).all():
        raise NotCachedError("the activations exceed the range of float16; use cache.dtype=auto, float32 or bfloat16")
    return stored.cpu().numpy()


def _tensor(array: np.ndarray) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")  # nobody writes to it
        tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.uint16 else tensor
