"""Stored activations of a split in the place of its images: a data set that serves whole batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

FeatureBatch = tuple[list[Tensor], Tensor, Tensor]  # the cut's tensors (B, …), labels (B,), positions (B,)
Keys = Sequence[int | tuple[int, int]]  # positions, or (pass, position)


@dataclass(frozen=True, eq=False)
class FeatureSet(Dataset[FeatureBatch]):
    """The activations of each image of a split at the freeze boundary, in one or several views.

    Attributes:
        values: a tensor for each of the cut's, (views · images, …): all images of the first view, then of the second.
        dtypes: in which each is served, whatever it is stored in.
        labels: (images,) int64.
        views: different augmentations of each image, used in turn over the passes.
    """

    values: Sequence[Tensor]
    dtypes: Sequence[torch.dtype]
    labels: Tensor
    views: int = 1

    @classmethod
    def of(
        cls,
        values: Sequence[Tensor],
        dtypes: Sequence[torch.dtype],
        labels: np.ndarray,
        views: int,
        device: torch.device,
    ) -> "FeatureSet":
        """The set, on the device where training takes place if there is ample room for it, else where it is."""
        size = sum(value.numel() * value.element_size() for value in values)
        if device.type == "cuda" and size < torch.cuda.mem_get_info(device)[0] // 2:
            values = [value.to(device) for value in values]
        return cls(tuple(values), tuple(dtypes), torch.from_numpy(labels).to(values[0].device), views)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: int | tuple[int, int]) -> FeatureBatch:
        return self.__getitems__([key])

    def __getitems__(self, keys: Keys) -> FeatureBatch:
        """A whole batch, which torch's loader asks for at once; keys are positions, or (pass, position)."""
        rows, positions = self.rows_of(keys)
        # Not value[rows], which takes twice as long.
        chosen = [value.index_select(0, rows).to(dtype) for value, dtype in zip(self.values, self.dtypes, strict=True)]
        return chosen, self.labels[positions], positions

    def rows_of(self, keys: Keys) -> tuple[Tensor, Tensor]:
        """Where in `values` the images of a batch are, and their positions in the split."""
        with_epochs: Any = keys if isinstance(keys[0], tuple) else zip(repeat(0), keys)
        flat = chain.from_iterable(with_epochs)
        pairs = np.fromiter(flat, np.int64, 2 * len(keys))  # not array() of pairs, which takes twice as long
        epochs, positions = torch.from_numpy(pairs).to(self.labels.device).view(-1, 2).unbind(1)
        return epochs % self.views * len(self.labels) + positions, positions


@dataclass(frozen=True, eq=False)
class FeatureRows(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """The same batches by reference: in the place of the activations, the rows of `features.values` that hold them."""

    features: FeatureSet

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        return self.__getitems__([key])

    def __getitems__(self, keys: Keys) -> tuple[Tensor, Tensor, Tensor]:
        rows, positions = self.features.rows_of(keys)
        return rows, self.features.labels[positions], positions


def whole(batch: Any) -> Any:
    """The collate function: what the set serves is a batch already."""
    return batch
