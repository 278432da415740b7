"""The features that heads are trained on, and in which order: that of runs of their own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thawlab.data.samplers import TrainSampler, batch_sizes


@dataclass(frozen=True, eq=False)
class Features:
    """What the classifier is given for each image.

    Attributes:
        train: (views, N, D): an epoch uses one view, the epochs use them in turn.
        train_labels: (N,) int64.
        val: (N, D).
        val_labels: (N,) int64.
        test: (N, D).
        cost: metrics that say what it took to get them, by their MLflow names.
    """

    train: Tensor
    train_labels: Tensor
    val: Tensor
    val_labels: Tensor
    test: Tensor
    cost: Mapping[str, float]


class Batches:
    """Which view each step uses, and the positions of its images in each order, (S, B): as in runs of their own."""

    def __init__(self, train: Tensor, orders: Sequence[int], batch_size: int) -> None:
        self._views, size, _ = train.shape
        self._device = train.device
        self._batch_size = batch_size
        self._samplers = [TrainSampler(size, batch_size, order) for order in orders]
        self.sampler = self  # where Lightning looks for `set_epoch`
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutations and the view."""
        self.epoch = epoch
        for sampler in self._samplers:
            sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def _sizes(self) -> list[int]:
        return batch_sizes(len(self._samplers[0]), self._batch_size)

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        order = torch.tensor([[position for _, position in sampler] for sampler in self._samplers])
        for rows in order.to(self._device).split(self._sizes, dim=1):
            yield self.epoch % self._views, rows
