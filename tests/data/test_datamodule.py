import gc
import multiprocessing
import os
import pickle

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import get_worker_info

from thawlab.data import datamodule
from thawlab.data.cpu_and_memory import auto_workers, available_cores
from thawlab.data.datamodule import ImageDataModule
from thawlab.data.images import ImageData
from thawlab.data.transforms import eval_transform, train_transform

STRONG = {
    "crop_scale": 0.4,
    "hflip": 0.5,
    "vflip": 0.1,
    "color_jitter": 0.3,
    "auto_augment": "rand-m7-mstd0.5-inc1",
    "random_erasing": 0.5,
}


class ThreadsTransform:
    """Tells how many threads PyTorch uses where a sample is made, and whether that is in a worker."""

    def __call__(self, image) -> torch.Tensor:
        return torch.tensor([float(torch.get_num_threads()), float(get_worker_info() is not None)])


@pytest.fixture
def make_module(make_split, preprocessing):
    def make(workers=0, train=21, val=7, test=11, batch_size=4, seed=0, **options) -> ImageDataModule:
        data = ImageData(
            "noise", ("a", "b", "c"), make_split(train), make_split(val), make_split(test), "0" * 32, True, None
        )
        transforms = (train_transform(preprocessing, 16, **STRONG), eval_transform(preprocessing, 16))
        return ImageDataModule(data, *transforms, batch_size, 3, workers, seed, **options)

    return make


def epoch_of(loader, epoch: int) -> list:
    loader.batch_sampler.sampler.set_epoch(epoch)
    return list(loader)


def same(one: list, other: list) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b) for left, right in zip(one, other, strict=True) for a, b in zip(left, right, strict=True)
    )


def test_a_batch_is_images_labels_and_positions(make_module):
    module = make_module()
    images, labels, positions = epoch_of(module.train_dataloader(), 0)[0]
    assert (images.shape, images.dtype) == ((4, 3, 16, 16), torch.float32)
    assert (labels.shape, labels.dtype) == ((4,), torch.int64)
    assert (positions.shape, positions.dtype) == ((4,), torch.int64)
    assert labels.tolist() == (positions % 3).tolist()


def test_batches_do_not_depend_on_the_number_of_workers(make_module):
    loaders = [make_module(workers).train_dataloader() for workers in (0, 1, 2)]
    for epoch in (0, 1, 5):
        batches = [epoch_of(loader, epoch) for loader in loaders]
        assert same(batches[0], batches[1])
        assert same(batches[0], batches[2])


def test_every_epoch_has_its_own_order_and_augmentation(make_module):
    loader = make_module().train_dataloader()
    by_position = []
    for epoch in (0, 1):
        batches = epoch_of(loader, epoch)
        images, positions = torch.cat([b[0] for b in batches]), torch.cat([b[2] for b in batches])
        by_position.append((positions, images[positions.argsort()]))
    assert not torch.equal(by_position[0][0], by_position[1][0])
    differ = (by_position[0][1] != by_position[1][1]).flatten(1).any(1)
    assert differ.float().mean() > 0.8
    assert same(epoch_of(loader, 0), epoch_of(make_module().train_dataloader(), 0))
    assert not same(epoch_of(loader, 0), epoch_of(make_module(seed=1).train_dataloader(), 0))


def test_evaluation_goes_through_the_split_in_order_without_randomness(make_module):
    for workers in (0, 1):
        module = make_module(workers)
        for loader, size in ((module.val_dataloader(), 7), (module.test_dataloader(), 11)):
            batches = list(loader)
            assert torch.cat([batch[2] for batch in batches]).tolist() == list(range(size))
            assert same(batches, list(loader))
        assert same(list(make_module(0).test_dataloader()), list(module.test_dataloader()))


@pytest.mark.parametrize("world", [2, 3, 4])
def test_processes_evaluate_every_sample_exactly_once(make_module, monkeypatch, world):
    seen, batches = [], []
    for rank in range(world):
        monkeypatch.setattr(datamodule, "rank_and_size", lambda rank=rank: (rank, world))
        module = make_module()
        seen += torch.cat([batch[2] for batch in module.test_dataloader()]).tolist()
        batches.append(len(module.train_dataloader()))
    assert sorted(seen) == list(range(11))
    assert len(set(batches)) == 1


def test_processes_train_on_every_sample(make_module, monkeypatch):
    seen = []
    for rank in range(2):
        monkeypatch.setattr(datamodule, "rank_and_size", lambda rank=rank: (rank, 2))
        seen += torch.cat([batch[2] for batch in epoch_of(make_module(train=22).train_dataloader(), 3)]).tolist()
    assert sorted(seen) == list(range(22))


def test_more_processes_than_samples_are_refused(make_module, monkeypatch):
    monkeypatch.setattr(datamodule, "rank_and_size", lambda: (0, 8))
    with pytest.raises(ValueError, match=r"^trainer\.devices=8: only 7 images to evaluate on; use at most 7$"):
        make_module().val_dataloader()


def test_loading_leaves_the_generators_of_training_alone(make_module):
    torch.manual_seed(3)
    expected = torch.rand(2)
    for workers in (0, 1):
        module = make_module(workers)
        torch.manual_seed(3)
        list(module.train_dataloader()), list(module.val_dataloader())
        assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_uses_one_thread(make_module, workers):
    module = make_module(workers)
    module.eval_transform = ThreadsTransform()
    assert {tuple(row) for batch in module.test_dataloader() for row in batch[0].tolist()} == {(1.0, 1.0)}


def test_the_transforms_and_splits_can_be_sent_to_spawned_workers(make_module):
    module = make_module()
    loader = module.train_dataloader()
    sent = pickle.loads(pickle.dumps(loader.dataset))
    assert torch.equal(sent[(0, 3)][0], loader.dataset[(0, 3)][0])


@pytest.mark.slow
def test_spawned_workers_make_the_same_batches(make_module):
    forked, spawned = make_module(0).train_dataloader(), make_module(2).train_dataloader()
    spawned.multiprocessing_context = "spawn"
    assert same(epoch_of(forked, 1), epoch_of(spawned, 1))


def test_auto_leaves_a_core_to_training_but_has_a_worker(monkeypatch):
    assert available_cores() == len(os.sched_getaffinity(0))
    for cores, processes, expected in [(1, 1, 1), (2, 1, 1), (4, 1, 3), (16, 2, 7), (2, 2, 1), (128, 1, 16)]:
        monkeypatch.setattr("thawlab.data.cpu_and_memory.available_cores", lambda cores=cores: cores)
        assert auto_workers(processes) == expected


class Recorder(LightningModule):
    """Trains a line and remembers what it was given, epoch by epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.line = torch.nn.Linear(3 * 16 * 16, 3)
        self.seen: dict[int, list] = {}

    def training_step(self, batch, _):
        self.seen.setdefault(self.current_epoch, []).append(tuple(part.clone() for part in batch))
        return torch.nn.functional.cross_entropy(self.line(batch[0].flatten(1)), batch[1])

    def validation_step(self, batch, _):
        self.log("val/loss", self.line(batch[0].flatten(1)).mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-3)


def fit(module: ImageDataModule, folder, epochs: int, resume=None, at_train_end: bool = True) -> Recorder:
    torch.manual_seed(0)
    recorder = Recorder()
    saving = ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=at_train_end)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        callbacks=[saving],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(recorder, datamodule=module, ckpt_path=resume, weights_only=True if resume else None)
    return recorder


@pytest.mark.parametrize("at_train_end", [True, False])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_sees_the_batches_of_an_uninterrupted_one(make_module, tmp_path, workers, at_train_end):
    whole = fit(make_module(workers), tmp_path, 4, at_train_end=at_train_end)
    rest = fit(make_module(workers), tmp_path / "rest", 4, tmp_path / "epoch=1.ckpt", at_train_end)
    assert list(rest.seen) == [2, 3]
    for epoch in (2, 3):
        assert same(rest.seen[epoch], whole.seen[epoch])
    assert not same(whole.seen[2], whole.seen[3])
    assert torch.equal(rest.line.weight, whole.line.weight)
    gc.collect()
    assert multiprocessing.active_children() == []


def test_a_training_set_smaller_than_a_batch_trains(make_module, tmp_path):
    recorder = fit(make_module(train=3, batch_size=64), tmp_path, 1)
    assert [batch[0].shape[0] for batch in recorder.seen[0]] == [3]


def test_labels_come_from_the_split(make_module):
    batches = list(make_module().test_dataloader())
    assert np.array_equal(torch.cat([batch[1] for batch in batches]).numpy(), np.arange(11) % 3)
