"""The Lightning DataModule: batches for train, val and test in one or several processes."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from thawlab.data.cpu_and_memory import auto_workers
from thawlab.data.dataset import AugmentedDataset, ImageDataset
from thawlab.data.decoded_image_cache import ImageMemory
from thawlab.data.feature_dataset import FeatureRows, FeatureSet, whole
from thawlab.data.images import ImageData, Split
from thawlab.data.loader_workers import context, ends_told
from thawlab.data.process_group import rank_and_size
from thawlab.data.samplers import TrainBatches, TrainSampler
from thawlab.data.transforms import Transform

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # (B, 3, H, W) float32, (B,) int64 labels, (B,) int64 positions

# Of the random changes in stored views: one for all runs, or none could use what another has stored.
VIEW_SEED = 0x76696577


class ImageDataModule(LightningDataModule):
    """Serves `Batch`es. What a batch holds depends on the seed and the epoch, not on workers, nor on a resume.

    Use it with `Trainer(use_distributed_sampler=False)`: it deals the samples out to the processes itself, and
    evaluates each exactly once, where Lightning would pad with duplicates.
    """

    def __init__(
        self,
        data: ImageData,
        train_transform: Transform,
        eval_transform: Transform,
        batch_size: int,
        eval_batch_size: int,
        workers: int | Literal["auto"],
        seed: int,
        drop_last: bool = False,
        features: Mapping[str, FeatureSet] | None = None,
        memory: ImageMemory | None = None,
        steps_at_once: int = 1,
        passes: int = 1,
    ) -> None:
        """Set up the loaders; batch sizes are those of one process.

        Args:
            data: the images.
            train_transform: of training images.
            eval_transform: of all others.
            batch_size: of training.
            eval_batch_size: of validation and test.
            workers: processes that decode images.
            seed: of the order and the random changes.
            drop_last: for what needs complete batches, such as mixup.
            features: served in the place of the images of some splits; batches then hold a list of tensors.
            memory: where decoded images are kept from epoch to epoch; None = nowhere.
            steps_at_once: of how many training steps one batch is; more than one hold rows of the features.
            passes: over the training images in an epoch, each in an order and with random changes of its own.
        """
        super().__init__()
        self.data = data
        self.train_transform = train_transform
        self.eval_transform = eval_transform
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.workers: int | Literal["auto"] = workers
        self.seed = seed
        self.drop_last = drop_last
        self.features = dict(features or {})
        self.memory = memory or ImageMemory(0)
        self.steps_at_once = steps_at_once
        self.passes = passes

    def for_phase(self, seed: int, augmented: bool) -> "ImageDataModule":
        """The same images in the order and with the random changes of another seed, or once and with no changes."""
        return ImageDataModule(
            self.data,
            self.train_transform if augmented else self.eval_transform,
            self.eval_transform,
            self.batch_size,
            self.eval_batch_size,
            self.workers,
            seed,
            drop_last=self.drop_last and augmented,
            memory=self.memory,
            passes=self.passes if augmented else 1,
        )

    def with_features(self, features: Mapping[str, FeatureSet], steps_at_once: int = 1) -> "ImageDataModule":
        """The same batches, with stored activations in the place of the images of some splits."""
        return ImageDataModule(
            self.data,
            self.train_transform,
            self.eval_transform,
            self.batch_size,
            self.eval_batch_size,
            self.workers,
            self.seed,
            self.drop_last,
            features,
            self.memory,
            steps_at_once,
            self.passes,
        )

    def ordered_batches(self, split: Split, view: int | None = None) -> DataLoader:
        """All images of a split in their order, prepared as in evaluation, or as one random view of each.

        A view depends on its number and the image, not on the seed, so that runs with other seeds share it.
        """
        loading = {**self._loading(), "persistent_workers": False}
        if view is None:
            return _Loader(ImageDataset(split, self.eval_transform), batch_size=self.eval_batch_size, **loading)
        images = AugmentedDataset(self.memory.dataset(split, self.train_transform), VIEW_SEED)
        keys = [(view, position) for position in range(len(images))]
        return _Loader(images, batch_size=self.eval_batch_size, sampler=keys, **loading)

    def plain_batches(self, images: int | None = None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Training images (B, 3, H, W) as they are evaluated, and labels (B,): the same in every process.

        Args:
            images: how many, drawn by the seed; None = all.
        """
        plain = ImageDataset(self.data.train, self.eval_transform)
        order = np.random.default_rng(self.seed).permutation(len(plain))[:images].tolist()
        loading = {**self._loading(), "persistent_workers": False}
        for batch, labels, _ in _Loader(plain, batch_size=self.eval_batch_size, sampler=order, **loading):
            yield batch, labels

    def train_dataloader(self) -> DataLoader:
        rank, world = rank_and_size()
        images = self.memory.dataset(self.data.train, self.train_transform)
        sampler = TrainSampler(
            len(images),
            self.batch_size,
            self.seed,
            rank=rank,
            world=world,
            drop_last=self.drop_last,
            passes=self.passes,
        )
        if "train" in self.features:
            features, size = self.features["train"], self.batch_size * self.steps_at_once
            served = features if self.steps_at_once == 1 else FeatureRows(features)
            return DataLoader(served, batch_sampler=TrainBatches(sampler, size), **self._stored())
        batches = TrainBatches(sampler, self.batch_size)
        return _Loader(AugmentedDataset(images, self.seed), batch_sampler=batches, **self._loading())

    def val_dataloader(self) -> DataLoader:
        return self._eval_loader("val")

    def test_dataloader(self) -> DataLoader:
        return self._eval_loader("test")

    def _eval_loader(self, name: Literal["val", "test"]) -> DataLoader:
        rank, world = rank_and_size()
        split: Split = getattr(self.data, name)
        # The test is read once: there is nothing to keep.
        images = (ImageDataset if name == "test" else self.memory.dataset)(split, self.eval_transform)
        if len(images) < world:  # a process without a batch would leave the others waiting
            raise ValueError(
                f"trainer.devices={world}: only {len(images)} images to evaluate on; use at most {len(images)}"
            )
        mine = range(rank, len(images), world)  # without padding: each sample is evaluated once over all processes
        if name in self.features:
            return DataLoader(self.features[name], self.eval_batch_size, sampler=mine, **self._stored())
        return _Loader(images, batch_size=self.eval_batch_size, sampler=mine, **self._loading())

    def _stored(self) -> dict[str, Any]:
        """How what is in memory already is served: by the training process itself."""
        return {"collate_fn": whole, "generator": torch.Generator().manual_seed(self.seed)}

    def _loading(self) -> dict[str, Any]:
        local = self.trainer.num_devices if self.trainer else 1
        workers = self.workers if isinstance(self.workers, int) else auto_workers(local)
        on_gpu = self.trainer.strategy.root_device.type == "cuda" if self.trainer else torch.cuda.is_available()
        # Where workers are forked: they use neither the GPU nor OpenMP, which a fork does not carry over.
        return {
            "num_workers": workers,
            "multiprocessing_context": context() if workers else None,
            "persistent_workers": workers > 0,
            "pin_memory": on_gpu,
            # Else a loader draws from the global generator, more often without workers than with: dropout would differ.
            "generator": torch.Generator().manual_seed(self.seed),
        }


class _Loader(DataLoader):
    """Starts its workers at the first batch, and says what ended one.

    Lightning 2.6 calls iter() once before it tells the sampler which epoch a resumed run is in; workers started then
    would prefetch batches of epoch 0.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        with ends_told():
            yield from super().__iter__()
