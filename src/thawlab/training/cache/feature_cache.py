"""The feature cache of a run: each phase trains on the stored activations of the stages that it leaves as they are.

Nothing about it is taken on trust: the cut is compared with the plain forward pass before it is used, an entry belongs
to the exact weights, images and preprocessing that it was made from, and its bytes are checked when it is opened.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from thawlab.backbones import freezing
from thawlab.backbones.cut.find import Cut, CutRefused
from thawlab.config.schema import Config, ConfigError, name_of
from thawlab.data.datamodule import ImageDataModule
from thawlab.data.feature_dataset import FeatureSet
from thawlab.data.feature_store.store import CacheUnavailable, FeatureStore
from thawlab.strategies.phases import Phase
from thawlab.strategies.regularisers.contract import REGULARISERS
from thawlab.training.cache import keys
from thawlab.training.cache.boundary import Boundary
from thawlab.training.cache.filling import CacheFiller, NotCachedError, SplitPass, prefix
from thawlab.training.cache.half_precision import Context
from thawlab.training.cache.views import choose_views
from thawlab.training.events import Events
from thawlab.training.preparation import Prepared


@dataclass(frozen=True)
class Cached:
    """The activations that stand in for the images of some splits, and where the network goes on from them."""

    cut: Cut
    features: Mapping[str, FeatureSet]


class FeatureCache:
    """The feature cache, as one run uses it.

    Attributes:
        totals: what it did so far.
    """

    def __init__(self, config: Config, prepared: Prepared, events: Events | None = None) -> None:
        self.config = config
        self.prepared = prepared
        self.events = events or Events()
        store = FeatureStore(Path(config.cache.dir), int(config.cache.max_gb * 1e9), self.events.note)
        self._filling = CacheFiller(config, prepared, store, self.events)
        self.totals = self._filling.totals
        self._said: set[str] = set()
        self._told: set[tuple[int, bool]] = set()

    def for_phase(self, index: int, loaders: ImageDataModule, device: torch.device, context: Context) -> Cached | None:
        """Stored activations for the training and validation images of a phase; None where it runs uncached.

        The network must be frozen as the phase wants it. The modes of its modules are changed.

        Raises:
            ConfigError: the phase cannot be cached, and `cache=require`.
        """
        phase, model = self.prepared.phases[index], self.prepared.network.model
        depth = self.prepared.layers.stages_below(phase.parameters)

        def modes() -> None:
            model.train(phase.logistic is None)
            freezing.eval_frozen(model, phase.batch_norm)

        def features(found: Boundary) -> dict[str, FeatureSet]:
            _refuse(self.config, phase)
            views = {"train": self._views(found, phase), "val": 1}
            self._tell(depth, found)
            return {
                name: self._filling.open(
                    SplitPass(name, getattr(loaders.data, name), count, loaders, device, context, modes, index == 0),
                    found,
                    depth,
                )
                for name, count in views.items()
            }

        return self._tried(f"phase {phase.name}", depth, modes, features, device, context)

    def for_test(self, device: torch.device, context: Context) -> Cached | None:
        """The same for the test images: at the depth that no phase trained, of the network as it will be kept."""
        depth, loaders = self.prepared.frozen, self.prepared.loaders
        modes = self.prepared.network.model.eval
        part = SplitPass("test", loaders.data.test, 1, loaders, device, context, modes, untrained=False)

        def features(found: Boundary) -> dict[str, FeatureSet]:
            self._tell(depth, found)
            return {"test": self._filling.open(part, found, depth)}

        return self._tried("the test", depth, modes, features, device, context)

    def _tried(
        self,
        what: str,
        depth: int,
        modes: Callable[[], object],
        features: Callable[[Boundary], dict[str, FeatureSet]],
        device: torch.device,
        context: Context,
    ) -> Cached | None:
        if self.config.cache.name == "off" or not prefix(self.prepared, depth):
            return None
        begun, before = time.perf_counter(), replace(self.totals)
        self.prepared.network.model.to(device)
        modes()
        try:
            boundary = self._filling.boundary(depth, device, context)
            found = Cached(boundary.cut, features(boundary))
        except (NotCachedError, CutRefused, CacheUnavailable) as error:
            if self.config.cache.name == "require":
                raise ConfigError(f"cache=require: {what} cannot be cached: {error}") from error
            self._say(what, str(error))
            return None
        finally:
            modes()
            self.totals.seconds += time.perf_counter() - begun
        sizes = {name: (each.views, len(each)) for name, each in found.features.items()}
        done = {
            "hits": self.totals.hits - before.hits,
            "filled": self.totals.filled - before.filled,
            "mb": (self.totals.bytes - before.bytes) / 1e6,
            "seconds": time.perf_counter() - begun,
        }
        self.events.cache_is_used(what, self.prepared.layers.stages[depth - 1].name, sizes, done)
        return found

    def _say(self, what: str, why: str) -> None:
        """Say once why something runs uncached."""
        if why not in self._said:
            self.events.note(f"{what} runs uncached: {why}")
        self._said.add(why)

    def _tell(self, depth: int, found: Boundary) -> None:
        """Say once at a depth what its frozen stages are computed in, if that is in question."""
        if (depth, found.half) not in self._told:
            for note in found.notes:
                self._note(note)
        self._told.add((depth, found.half))

    def _views(self, found: Boundary, phase: Phase) -> int:
        """How many random views of each training image are kept; 1 means the image without any random change."""
        if phase.logistic is not None or keys.augmentation(self.config, self.prepared) is None:
            return 1
        data = self.prepared.data
        chosen = choose_views(
            self.config.cache,
            phase.epochs * self.prepared.passes,
            len(data.train),
            len(data.val),
            self._filling.row_bytes(found),
        )
        if chosen.said:
            self._note(chosen.said)
        return chosen.count

    def _note(self, text: str) -> None:
        if text not in self._said:
            self.events.note(text)
        self._said.add(text)


def _refuse(config: Config, phase: Phase) -> None:
    """What a phase needs that stored activations do not give.

    Raises:
        NotCachedError: it needs it.
    """
    if phase.logistic is None and (config.augment.mixup or config.augment.cutmix):
        raise NotCachedError("mixup and cutmix mix images; use augment.mixup=0 augment.cutmix=0")
    if config.trainer.compile:
        raise NotCachedError("a compiled network cannot go on from the middle; use trainer.compile=false")
    for settings in phase.regularisers:
        name = name_of(settings)
        if REGULARISERS.load(name).NEEDS_IMAGES:
            raise NotCachedError(
                f"strategy={name} shows the images of every step to the network as it was at the start"
            )
