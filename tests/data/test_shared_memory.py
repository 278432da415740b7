from types import SimpleNamespace

import pytest

from thawlab.data import shared_memory
from thawlab.data.shared_memory import fitting_workers

MB = 10**6


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch):
    def give(count: int) -> None:
        monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda _: SimpleNamespace(free=count))

    return give


def test_workers_whose_batches_have_room_stay_as_they_are(free):
    free(1000 * MB)
    assert fitting_workers(4, 1, 38 * MB, 10_000 * MB) == (4, None)
    assert fitting_workers(0, 1, 38 * MB, 10_000 * MB) == (0, None)


@pytest.mark.parametrize(("megabytes", "fitting"), [(64, 0), (152, 1), (300, 2), (379, 3)])
def test_fewer_workers_or_none_are_used_where_shared_memory_is_short(free, megabytes, fitting):
    free(megabytes * MB)
    workers, note = fitting_workers(4, 1, 38 * MB, 10_000 * MB)
    assert workers == fitting
    assert note is not None
    assert f"only {megabytes} MB free" in note
    assert "--shm-size" in note
    assert f"trainer.workers={fitting}" in note


def test_processes_of_one_machine_share_the_memory(free):
    free(400 * MB)
    assert fitting_workers(4, 1, 38 * MB, 10_000 * MB)[0] == 4
    assert fitting_workers(4, 2, 38 * MB, 10_000 * MB)[0] == 1


def test_few_images_never_need_more_than_they_are(free):
    free(64 * MB)
    assert fitting_workers(16, 1, 38 * MB, 60 * MB) == (16, None)


def test_nothing_is_assumed_where_there_is_no_such_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(shared_memory, "_FOLDER", tmp_path / "none")
    assert fitting_workers(4, 1, 38 * MB, 10_000 * MB) == (4, None)
