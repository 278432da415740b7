"""Workers that are started by a server: nothing of what training processes hold reaches them, but images do."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.context import set_spawning_popen
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from noise_images import noise
from worker_parts import LOCK, Counting, TakesLock, read_all

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import torch

from thawlab.config.lost_workers import lost_worker
from thawlab.data.datamodule import ImageDataModule
from thawlab.data.dataset import ImageDataset
from thawlab.data.decoded_image_cache import FirstSteps, ImageMemory, KeptImages
from thawlab.data.decoding import ArrayReader, FileReader
from thawlab.data.images import ImageData, Split
from thawlab.data.loader_workers import ServedWorkers, context, ends_told
from thawlab.data.transforms import eval_transform, train_transform

COUNT = 7


@pytest.fixture
def distributed(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is one of two, as torchrun tells it."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def module(preprocessing) -> ImageDataModule:
    images = np.stack([noise(number, 20, 20)[:, :, 0] for number in range(3 * COUNT)])

    def split(part: int) -> Split:
        labels, names = np.arange(COUNT, dtype=np.int64) % 3, tuple(f"{part}/{i}" for i in range(COUNT))
        return Split(names, ("",) * COUNT, labels, ArrayReader(images[part * COUNT : (part + 1) * COUNT]))

    data = ImageData("noise", ("a", "b", "c"), split(0), split(1), split(2), "0" * 32, True, None)
    changes = {"crop_scale": 0.5, "hflip": 0.5, "vflip": 0.0, "color_jitter": 0.3, "random_erasing": 0.5}
    train = train_transform(preprocessing, 16, **changes, auto_augment="rand-m7-mstd0.5-inc1")
    return ImageDataModule(data, train, eval_transform(preprocessing, 16), 4, 4, 1, seed=3)


def test_workers_of_one_training_process_are_forked_and_those_of_several_are_not(module, monkeypatch):
    assert module.test_dataloader().multiprocessing_context.get_start_method() == "fork"
    monkeypatch.setenv("RANK", "0")
    for loader in (module.train_dataloader(), module.val_dataloader(), module.test_dataloader()):
        assert isinstance(loader.multiprocessing_context, ServedWorkers)
    assert module.ordered_batches(module.data.val).multiprocessing_context.get_start_method() == "forkserver"
    module.workers = 0
    assert module.test_dataloader().multiprocessing_context is None


def test_a_lock_that_is_held_while_workers_start_stops_none(module, distributed):
    module.eval_transform = TakesLock()
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        with LOCK:
            holding.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait()
    try:
        loader = module.val_dataloader()
        batches = iter(loader)
        took, parent = next(batches)[0][0].tolist()
    finally:
        done.set()
        thread.join()
    assert took == 1.0
    assert parent != os.getpid()


def test_batches_are_bit_for_bit_those_of_forked_workers(module, monkeypatch):
    def batches() -> list[list[torch.Tensor]]:
        found = []
        for loader in (module.train_dataloader(), module.val_dataloader(), module.test_dataloader()):
            found += list(loader)
        return found

    forked = batches()
    monkeypatch.setenv("RANK", "0")
    for expected, found in zip(forked, batches(), strict=True):
        assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


def test_a_worker_that_the_system_ended_is_told_as_a_forked_one_is(distributed):
    killed, ended = (started(time.sleep, 60), started(int))
    os.kill(killed.pid, signal.SIGKILL)
    for worker in (killed, ended):
        worker.join(60)
    said = "DataLoader worker (pid(s) {}, 1) exited unexpectedly"  # torch's words
    with pytest.raises(RuntimeError, match="is killed by signal: Killed") as caught, ends_told():
        raise RuntimeError(said.format(killed.pid))
    assert "memory ran out" in str(lost_worker(caught.value))
    with pytest.raises(RuntimeError, match="exited unexpectedly"), ends_told():
        raise RuntimeError(said.format(ended.pid))


def started(function: Callable[..., object], *arguments: object) -> Any:
    worker = context().Process(target=function, args=arguments)  # type: ignore[attr-defined]
    worker.start()
    return worker


def test_images_are_kept_for_all_workers_that_a_server_starts(distributed, tmp_path):
    kept = KeptImages(Counting(tmp_path), 5, 10**6)
    kept(0)
    for count in (3, 5):
        worker = started(read_all, kept, count)
        worker.join(60)
        assert worker.exitcode == 0
    read_all(kept, 5)
    made = sorted(path.name.partition("-")[0] for path in tmp_path.iterdir())
    assert made == ["0", "1", "2", "3", "4"]
    assert kept.kept == (5, 5 * 3 * 9 * 7)


class Starting:
    """In the place of a process that is being started: what is pickled meanwhile is read here as it would be there."""

    def __enter__(self) -> None:
        set_spawning_popen(self)

    def __exit__(self, *_: object) -> None:
        set_spawning_popen(None)

    def duplicate_for_child(self, file: int) -> int:
        return os.dup(file)

    def DupFd(self, file: int) -> "Handed":  # noqa: N802
        return Handed(file)


class Handed:
    """A file descriptor as a started process gets it."""

    def __init__(self, file: int) -> None:
        self.file = file

    def detach(self) -> int:
        return self.file


def sent(dataset: ImageDataset) -> tuple[int, ImageDataset]:
    """How many bytes a worker is sent, and what it has then."""
    with Starting():
        data = pickle.dumps(dataset)
    return len(data), pickle.loads(data)


def test_workers_are_sent_where_images_are_and_not_the_images(tmp_path, preprocessing):
    paths = tuple(str(tmp_path / f"ä{os.fsdecode(bytes([255]))}{number}.png") for number in range(2000))
    hashes = tuple(f"{number:032x}" for number in range(2000))
    images = np.random.default_rng(0).integers(0, 256, (2000, 8, 8), dtype=np.uint8)
    labels, transform = np.arange(2000) % 3, eval_transform(preprocessing, 16)
    for reader in (FileReader(paths, hashes=hashes), ArrayReader(images)):
        split = Split(paths, paths, labels, reader, hashes)
        for dataset in (ImageDataset(split, transform), ImageMemory(10**6).dataset(split, transform)):
            for _ in range(2):
                size, there = sent(dataset)
                assert size < labels.nbytes + 10_000
                assert len(there) == 2000
                assert there.split.labels.tolist() == labels.tolist()
            read = there.split.read.make.read if isinstance(there.split.read, KeptImages) else there.split.read
            if isinstance(read, FileReader):
                assert list(read.paths) == list(paths)
                assert read.hashes is not None
                assert read.hashes[-1] == hashes[-1]
                assert read.paths[3:5] == list(paths[3:5])
            else:
                assert np.array_equal(read.images, images)
                assert np.array_equal(np.asarray(read(7)), np.asarray(reader(7)))
                with pytest.raises(ValueError, match="read-only"):
                    read.images[0] = 0  # it is everybody's


def test_a_copy_that_goes_to_no_worker_holds_everything(tmp_path):
    for reader in (FileReader(("a", "b"), hashes=("1", "2")), ArrayReader(np.ones((2, 3, 3), dtype=np.uint8))):
        copy = pickle.loads(pickle.dumps(reader))
        if isinstance(reader, FileReader):
            assert copy == reader
        else:
            assert np.array_equal(copy.images, reader.images)


def test_where_memory_has_no_files_workers_get_copies(preprocessing, monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    images = np.arange(2 * 64, dtype=np.uint8).reshape(2, 8, 8)
    split = Split(("a", "b"), ("", ""), np.zeros(2, dtype=np.int64), ArrayReader(images))
    assert np.array_equal(sent(ImageDataset(split, eval_transform(preprocessing, 16)))[1].split.read.images, images)
    kept = KeptImages(FirstSteps(split.read, ()), 2, 10**6)
    kept(0)
    assert kept.kept[0] == 1
    with Starting():
        assert pickle.loads(pickle.dumps(kept)).kept == (0, 0)


# A training process that starts a worker, says what it is and what it runs under, and waits.
PARENT = """
import sys
sys.path.remove(sys.path[0])
import os, time
from thawlab.data import loader_workers
loader_workers._IMPORTED_ONCE.clear()
worker = loader_workers.context().Process(target=time.sleep, args=(600,), daemon=True)
worker.start()
server = next(line.split()[1] for line in open(f"/proc/{worker.pid}/status") if line.startswith("PPid"))
print(worker.pid, server, flush=True)
time.sleep(600)
"""


def test_workers_end_with_a_process_that_is_killed_and_run_neither_its_program_nor_files_beside_it(tmp_path):
    (tmp_path / "train.py").write_text(PARENT)
    for name in ("selectors", "signal", "socket"):  # what servers import
        (tmp_path / f"{name}.py").write_text("open('imported', 'w').close()")
    environment = {**os.environ, "RANK": "0", "PYTHONSAFEPATH": ""}  # as a user may set it
    with subprocess.Popen(
        [sys.executable, "train.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        processes = [int(number) for number in parent.stdout.readline().split()]
        parent.kill()
        assert parent.stdout.read() == ""  # nobody holds the pipe any more, and the program ran once
    assert len(processes) == 2
    assert parent.pid not in processes
    assert not (tmp_path / "imported").exists()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{each}").exists() for each in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{each}").exists() for each in processes)
