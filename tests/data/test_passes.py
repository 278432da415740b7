"""Several passes over the training images in an epoch: each in an order of its own, whatever is served."""

import pytest
import torch

from thawlab.data.samplers import TrainBatches, TrainSampler
from thawlab.training.heads.batches import Batches


def test_each_pass_holds_every_image_once_and_no_two_passes_are_alike():
    sampler = TrainSampler(5, 4, seed=0, passes=3)
    sampler.set_epoch(2)
    keys = list(sampler)
    passes = [keys[start : start + 5] for start in (0, 5, 10)]
    assert [{number for number, _ in each} for each in passes] == [{6}, {7}, {8}]  # none of an epoch before
    assert all(sorted(position for _, position in each) == list(range(5)) for each in passes)
    assert len({tuple(position for _, position in each) for each in passes}) == 3


def test_an_epoch_of_one_pass_is_as_it_was():
    one, several = TrainSampler(20, 4, seed=3), TrainSampler(20, 4, seed=3, passes=2)
    one.set_epoch(3)
    several.set_epoch(1)  # of the passes 2 and 3
    assert list(several)[20:] == list(one)


def test_batches_go_on_over_the_end_of_a_pass():
    batches = TrainBatches(TrainSampler(5, 4, seed=0, passes=3), 4)
    assert [len(batch) for batch in batches] == [4, 4, 4, 3]


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_each_pass(world):
    ranks = [list(TrainSampler(6, 2, seed=0, rank=rank, world=world, passes=2)) for rank in range(world)]
    assert sorted(key for keys in ranks for key in keys) == [(n, position) for n in (0, 1) for position in range(6)]


def test_complete_batches_are_filled_over_all_passes():
    assert len(TrainSampler(5, 4, seed=0, drop_last=True, passes=2)) == 8
    assert len(TrainSampler(5, 16, seed=0, drop_last=True, passes=3)) == 14  # one batch, which mixing pairs up


def test_heads_see_the_images_of_all_passes_each_in_its_view():
    batches = Batches(torch.zeros(2, 5, 1), orders=[7, 8], batch_size=4, passes=3)
    batches.set_epoch(1)
    rows = torch.cat(list(batches), dim=1)  # (2, 15)
    for order, found in zip((7, 8), rows, strict=True):
        sampler = TrainSampler(5, 4, seed=order, passes=3)
        sampler.set_epoch(1)
        assert found.tolist() == [number % 2 * 5 + position for number, position in sampler]
