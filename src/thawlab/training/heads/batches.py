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
        train: (views, N, D): a pass over the images uses one view, the passes use them in turn.
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
    """The rows of each step's images in each order, (S, B), as in runs of their own: row `position` of the first view.

    Args:
        train: (views, N, D), of which the passes use the views in turn.
        orders: S seeds.
        batch_size: images in a step.
        passes: over the images in an epoch.
    """

    def __init__(self, train: Tensor, orders: Sequence[int], batch_size: int, passes: int = 1) -> None:
        self._views, self._images, _ = train.shape
        self._device = train.device
        self._batch_size = batch_size
        self._samplers = [TrainSampler(self._images, batch_size, order, passes=passes) for order in orders]
        self.sampler = self  # where Lightning looks for `set_epoch`

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutations and the views."""
        for sampler in self._samplers:
            sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def _sizes(self) -> list[int]:
        return batch_sizes(len(self._samplers[0]), self._batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        keys = torch.tensor([list(sampler) for sampler in self._samplers])  # (S, images of all passes, 2)
        rows = keys[..., 0] % self._views * self._images + keys[..., 1]
        yield from rows.to(self._device).split(self._sizes, dim=1)
