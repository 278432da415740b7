"""Images that are decoded once: the same pixels as decoding again, within the room, whoever comes first."""

import multiprocessing
import os
import pickle
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from noise_images import noise
from PIL import Image

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import torch
from torch.utils.data import DataLoader

from thawlab.data import decoded_image_cache, shared_block
from thawlab.data.dataset import AugmentedDataset, ImageDataset
from thawlab.data.decoded_image_cache import FirstSteps, ImageMemory, KeptImages
from thawlab.data.decoding import ArrayReader, FileReader
from thawlab.data.images import Split
from thawlab.data.transforms import eval_transform, train_transform

SIZES = [(8, 10), (31, 20), (64, 48), (20, 90), (1, 1), (50, 50)]
OFF = {"crop_scale": 1.0, "hflip": 0.0, "vflip": 0.0, "color_jitter": 0.0, "auto_augment": None, "random_erasing": 0.0}
fork = multiprocessing.get_context("fork")


class Counting:
    """Makes the i-th image, and counts over all processes how often that happened."""

    def __init__(self, wait: float = 0.0) -> None:
        self.calls = fork.Value("i", 0)
        self.wait = wait

    def __call__(self, position: int) -> Image.Image:
        with self.calls.get_lock():
            self.calls.value += 1
        time.sleep(self.wait)
        return Image.fromarray(noise(position, *SIZES[position]))


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image)


def total_bytes(*positions: int) -> int:
    return sum(3 * SIZES[each][0] * SIZES[each][1] for each in positions)


def files(folder: Path, count: int = 4) -> Split:
    paths = []
    for number in range(count):
        paths.append(str(folder / f"{number}.png"))
        Image.fromarray(noise(number, 90 + number, 70)).save(paths[-1])
    labels = np.arange(count, dtype=np.int64) % 2
    return Split(tuple(f"{i}" for i in range(count)), tuple(paths), labels, FileReader(tuple(paths)))


def test_a_kept_image_has_the_pixels_that_it_was_made_with_and_is_made_once():
    make = Counting()
    kept = KeptImages(make, len(SIZES), 10**6)
    for _ in range(3):
        for position, size in enumerate(SIZES):
            assert np.array_equal(pixels(kept(position)), noise(position, *size))
    assert make.calls.value == len(SIZES)
    assert kept.kept == (len(SIZES), total_bytes(*range(len(SIZES))))


@pytest.mark.parametrize("room", [0, 1, total_bytes(0), total_bytes(0, 1) + 5, total_bytes(0, 1, 2)])
def test_no_more_is_kept_than_there_is_room_and_the_pixels_are_the_same(room):
    kept = KeptImages(Counting(), len(SIZES), room)
    for _ in range(2):
        for position, size in enumerate(SIZES):
            assert np.array_equal(pixels(kept(position)), noise(position, *size))
    assert kept.kept[1] <= room


def test_what_one_process_made_is_there_for_the_others_and_for_the_one_that_forked_them():
    make = Counting()
    kept = KeptImages(make, len(SIZES), 10**6)
    child = fork.Process(target=lambda: [kept(position) for position in range(4)])
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert make.calls.value == 4
    assert all(np.array_equal(pixels(kept(i)), noise(i, *SIZES[i])) for i in range(4))
    assert make.calls.value == 4


def test_processes_that_make_the_same_images_at_once_end_with_one_of_each():
    make = Counting(wait=0.002)
    kept = KeptImages(make, len(SIZES), 10**6)

    def work(seed: int) -> None:
        for position in np.random.default_rng(seed).permutation(np.repeat(np.arange(len(SIZES)), 10)).tolist():
            assert np.array_equal(pixels(kept(position)), noise(position, *SIZES[position]))

    children = [fork.Process(target=work, args=(seed % 2,)) for seed in range(4)]  # two and two in the same order
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * 4
    assert kept.kept == (len(SIZES), total_bytes(*range(len(SIZES))))
    assert len(SIZES) <= make.calls.value <= 4 * len(SIZES)
    for position, size in enumerate(SIZES):
        assert np.array_equal(pixels(kept(position)), noise(position, *size))


def test_a_process_killed_with_the_lock_in_hand_stops_nobody(monkeypatch):
    monkeypatch.setattr(decoded_image_cache, "_PATIENCE", 0.01)
    kept = KeptImages(Counting(), len(SIZES), 10**6)
    kept(0)

    def die() -> None:
        kept._room._lock.acquire()
        os.kill(os.getpid(), signal.SIGKILL)

    child = fork.Process(target=die)
    child.start()
    child.join(30)
    assert child.exitcode == -signal.SIGKILL
    for position, size in enumerate(SIZES):
        assert np.array_equal(pixels(kept(position)), noise(position, *size))


def test_a_copy_that_goes_to_no_worker_makes_every_image(tmp_path):
    split = files(tmp_path)
    kept = KeptImages(FirstSteps(split.read, ()), len(split), 10**6)
    kept(1)
    copy = pickle.loads(pickle.dumps(kept))
    assert copy.kept == (0, 0)
    assert np.array_equal(pixels(copy(1)), pixels(split.read(1)))


def test_a_system_without_that_much_memory_keeps_nothing(monkeypatch):
    def refuse(*args):
        raise OSError("cannot allocate memory")

    monkeypatch.setattr(shared_block.mmap, "mmap", refuse)
    kept = KeptImages(Counting(), len(SIZES), 10**6)
    assert np.array_equal(pixels(kept(2)), noise(2, *SIZES[2]))
    assert kept.kept == (0, 0)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("crop", [("center", 0.875), ("squash", 0.9), ("border", 0.95)])
def test_evaluation_from_memory_is_bitwise_what_it_is_without(tmp_path, preprocessing, workers, crop):
    preprocessing |= {"crop_mode": crop[0], "crop_pct": crop[1]}
    split, transform = files(tmp_path), eval_transform(preprocessing, 32)
    memory = ImageMemory(10**6)
    plain, kept = ImageDataset(split, transform), memory.dataset(split, transform)
    for _ in range(2):
        loaders = [DataLoader(each, batch_size=3, num_workers=workers) for each in (plain, kept)]
        for expected, found in zip(*loaders, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert memory.kept == (4, 4 * 3 * 32 * 32)  # resized and cut, not as they lie on the disk


@pytest.mark.parametrize("room", [10**6, 30_000, 0])
def test_random_crops_from_memory_are_bitwise_those_without(tmp_path, preprocessing, room):
    split = files(tmp_path)
    transform = train_transform(preprocessing, 32, **(OFF | {"crop_scale": 0.3, "hflip": 0.5}))
    plain, kept = ImageDataset(split, transform), ImageMemory(room).dataset(split, transform)
    for epoch in range(3):
        for index in range(len(split)):
            expected, found = AugmentedDataset(plain, 1)[(epoch, index)], AugmentedDataset(kept, 1)[(epoch, index)]
            assert torch.equal(expected[0], found[0])
            assert expected[1:] == found[1:]


def test_shrinking_depends_on_the_image_alone_and_not_on_the_room(tmp_path, preprocessing):
    split = files(tmp_path)
    transform = train_transform(preprocessing, 16, **(OFF | {"crop_scale": 0.5}))
    much, none = (ImageMemory(room, shrink=True).dataset(split, transform) for room in (10**6, 0))
    for epoch in range(2):
        for index in range(len(split)):
            pair = [AugmentedDataset(each, 1)[(epoch, index)][0] for each in (much, none)]
            assert torch.equal(*pair)
    assert min(much.split.read(0).size) == 27  # the least short side at which half of the area holds 16 pixels a side


def test_the_same_images_are_kept_once_over_phases_and_other_ones_apart(tmp_path, preprocessing):
    split, memory = files(tmp_path), ImageMemory(10**6)
    first, second = eval_transform(preprocessing, 32), eval_transform(preprocessing, 16)
    assert memory.dataset(split, first) is memory.dataset(split, first)
    assert memory.dataset(split, second) is not memory.dataset(split, first)


def test_images_of_unknown_sizes_leave_room_for_validation(tmp_path, preprocessing):
    split = files(tmp_path)
    memory = ImageMemory(20_000)  # one image of training, and a tenth of it
    train = memory.dataset(split, train_transform(preprocessing, 16, **(OFF | {"crop_scale": 0.5})))
    val = memory.dataset(split, eval_transform(preprocessing, 16))
    for position in range(len(split)):
        train.split.read(position), val.split.read(position)
    assert train.split.read.kept[0] == 0  # 18,900 bytes an image, 18,000 to have
    assert val.split.read.kept == (2, 2 * 3 * 16 * 16)


def test_images_that_lie_in_memory_are_not_kept_again(preprocessing):
    images = np.zeros((3, 8, 8), dtype=np.uint8)
    split = Split(("a", "b", "c"), ("",) * 3, np.zeros(3, dtype=np.int64), ArrayReader(images))
    memory = ImageMemory(10**6)
    assert memory.dataset(split, eval_transform(preprocessing, 16)).split is split
    assert memory.kept == (0, 0)


@pytest.mark.parametrize(("free", "processes"), [(4, 1), (8, 2)])
def test_no_more_than_half_of_what_is_free_is_taken(tmp_path, preprocessing, monkeypatch, free, processes):
    monkeypatch.setattr(decoded_image_cache, "available_memory", lambda: free * 3 * 16 * 16)
    split, memory = files(tmp_path), ImageMemory(10**9, processes=processes)
    data = memory.dataset(split, eval_transform(preprocessing, 16))
    for position in range(len(split)):
        data.split.read(position)
    assert memory.kept == (2, 2 * 3 * 16 * 16)
