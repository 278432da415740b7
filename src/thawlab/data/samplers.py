"""Which training samples, in which order, in which process."""

from collections.abc import Iterator
from itertools import chain, islice, repeat

import numpy as np
from torch.utils.data import Sampler


class TrainSampler(Sampler[tuple[int, int]]):
    """This process's share of permutations that depend on the seed and the pass alone, as (pass, position).

    An epoch is one pass over the samples or several, each in an order of its own; batches go on over the end of a pass.
    Every process gets equally many samples: where the number of processes does not divide them, the first of the
    permutation come twice.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        world: int = 1,
        drop_last: bool = False,
        passes: int = 1,
    ) -> None:
        """Set up process `rank` of `world` for `size` samples; `batch_size` is that of one process.

        With `drop_last` every batch is complete; where the share is smaller than one batch, its even part is used.
        """
        self.size, self.seed, self.rank, self.world = size, seed, rank, world
        self.share = -(-size // world)
        self.passes = passes
        self.used = _used(self.share * passes, batch_size, drop_last)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutations; Lightning calls this before each epoch, with the number of epochs already done."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.used

    def __iter__(self) -> Iterator[tuple[int, int]]:
        first = self.epoch * self.passes
        return islice(chain.from_iterable(map(self._pass, range(first, first + self.passes))), self.used)

    def _pass(self, number: int) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng([self.seed, number]).permutation(self.size)
        mine = np.resize(order, self.share * self.world)[self.rank :: self.world]
        return zip(repeat(number), mine.tolist())


class TrainBatches(Sampler[list[tuple[int, int]]]):
    """What the sampler yields, in batches of the sizes that `batch_sizes` gives."""

    def __init__(self, sampler: TrainSampler, size: int) -> None:
        self.sampler = sampler  # where Lightning looks for `set_epoch`
        self.size = size

    def __len__(self) -> int:
        return len(batch_sizes(len(self.sampler), self.size))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        keys = iter(self.sampler)
        for size in batch_sizes(len(self.sampler), self.size):
            yield list(islice(keys, size))


def batch_sizes(samples: int, size: int) -> list[int]:
    """Samples in each batch: a single one left over joins the batch before it, since batch norm cannot train on one."""
    full, rest = divmod(samples, size)
    if rest == 1 and full:
        return [size] * (full - 1) + [size + 1]
    return [size] * full + [rest] * (rest > 0)


def _used(samples: int, batch_size: int, drop_last: bool) -> int:
    """How many of a process's samples in an epoch fill its batches."""
    if not drop_last:
        return samples
    if samples < batch_size:  # one batch, whatever its size
        return samples - samples % 2 if samples > 1 else samples
    return samples - samples % batch_size
