"""Images of a split as PyTorch datasets, with randomness that belongs to (seed, epoch, index) alone."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from thawlab.data.decoding import read_for
from thawlab.data.images import Split
from thawlab.data.shared_block import is_starting_process
from thawlab.data.transform_geometry import least_side
from thawlab.data.transforms import Transform

Sample = tuple[torch.Tensor, int, int]  # (3, H, W) float32, label, position in the split


@dataclass(frozen=True, eq=False)
class ImageDataset(Dataset[Sample]):
    """Decoded and transformed images of a split, by position.

    A file is decoded no larger than the transform needs, where its reader may do so (`FileReader.draft`).
    """

    split: Split
    transform: Transform

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> Sample:
        return self.transform(self._read(index)), int(self.split.labels[index]), index

    def __getstate__(self) -> dict[str, Any]:
        split = self.split.for_workers() if is_starting_process() else self.split
        return {"split": split, "transform": self.transform}

    @cached_property
    def _read(self) -> Callable[[int], Image.Image]:
        return read_for(self.split.read, least_side(self.transform))


@dataclass(frozen=True, eq=False)
class AugmentedDataset(Dataset[Sample]):
    """The same with random transforms, by (pass, position), which `TrainSampler` yields.

    The pass travels with the position because workers that live through all epochs hear of nothing else.
    """

    images: ImageDataset
    seed: int

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        number, index = key
        with randomness(self.seed, number, index):
            return self.images[index]


@contextmanager
def randomness(*key: int) -> Iterator[None]:
    """Seed Python, NumPy and PyTorch (CPU) from the key inside, and put their states back afterwards.

    Without workers the samples are made in the training process, whose dropout must not notice. About 30 µs.
    """
    states = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    words = np.random.SeedSequence(key).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    # Not torch.manual_seed: that would also reseed the GPUs.
    torch.default_generator.manual_seed(int(words[2]) << 32 | int(words[3]))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.default_generator.set_state(states[2])
