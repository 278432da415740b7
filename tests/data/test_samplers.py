import pytest

from thawlab.data.samplers import TrainBatches, TrainSampler, batch_sizes


def epochs(count: int = 3, **options) -> list[list[tuple[int, int]]]:
    sampler = TrainSampler(20, 4, **({"seed": 0} | options))
    found = []
    for epoch in range(count):
        sampler.set_epoch(epoch)
        found.append(list(sampler))
    return found


def test_an_epoch_is_a_permutation_and_says_which_epoch_it_is():
    for epoch, keys in enumerate(epochs()):
        assert sorted(keys) == [(epoch, i) for i in range(20)]


def test_the_permutation_depends_on_seed_and_epoch_alone():
    orders = [[index for _, index in keys] for keys in epochs()]
    assert len({tuple(order) for order in orders}) == 3
    assert epochs() == epochs()
    assert epochs(seed=1) != epochs()
    late = TrainSampler(20, 4, 0)
    late.set_epoch(2)
    assert list(late) == epochs()[2]


@pytest.mark.parametrize(("size", "world"), [(20, 2), (21, 2), (22, 4), (7, 3), (2, 3), (1, 2)])
def test_processes_share_an_epoch_evenly_and_miss_nothing(size, world):
    shares = [list(TrainSampler(size, 4, 0, rank=rank, world=world)) for rank in range(world)]
    assert {index for share in shares for _, index in share} == set(range(size))
    assert len({len(share) for share in shares}) == 1
    assert [len(share) for share in shares] == [
        len(TrainSampler(size, 4, 0, rank=rank, world=world)) for rank in range(world)
    ]


def test_the_processes_of_an_epoch_make_up_the_permutation_of_one():
    whole = [index for _, index in TrainSampler(20, 4, 0)]
    parts = [[index for _, index in TrainSampler(20, 4, 0, rank=rank, world=2)] for rank in range(2)]
    assert [index for pair in zip(*parts, strict=True) for index in pair] == whole


@pytest.mark.parametrize(
    ("size", "batch_size", "drop_last", "used"),
    [
        (20, 8, False, 20),  # last batch of 4
        (17, 8, False, 17),
        (17, 8, True, 16),
        (20, 8, True, 16),
        (16, 8, True, 16),
        (5, 8, False, 5),  # smaller than a batch: still trained on
        (5, 8, True, 4),
        (1, 8, False, 1),
        (1, 8, True, 1),
        (5, 1, False, 5),
        (9, 8, False, 9),
    ],
)
def test_the_last_batch_is_dropped_where_batches_must_be_complete(size, batch_size, drop_last, used):
    sampler = TrainSampler(size, batch_size, 0, drop_last=drop_last)
    assert len(sampler) == len(list(sampler)) == used


@pytest.mark.parametrize(
    ("samples", "size", "sizes"),
    [
        (17, 8, [8, 9]),
        (9, 8, [9]),
        (18, 8, [8, 8, 2]),
        (16, 8, [8, 8]),
        (3, 2, [3]),
        (5, 1, [1] * 5),  # as asked for
        (5, 8, [5]),
        (1, 8, [1]),
    ],
)
def test_a_single_sample_that_is_left_over_joins_the_batch_before_it(samples, size, sizes):
    assert batch_sizes(samples, size) == sizes
    batches = TrainBatches(TrainSampler(samples, size, 0), size)
    assert [len(batch) for batch in batches] == sizes
    assert len(batches) == len(sizes)
    assert sorted(index for batch in batches for _, index in batch) == list(range(samples))


@pytest.mark.parametrize("samples", range(1, 60))
def test_batches_of_several_steps_hold_the_same_steps(samples):
    steps = [size for batch in batch_sizes(samples, 4 * 3) for size in batch_sizes(batch, 4)]
    assert steps == batch_sizes(samples, 4)
