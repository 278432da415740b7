import os
import signal
import time
from contextlib import contextmanager

import pytest

from thawlab.config.schema import ConfigError
from thawlab.launch import folder_lock
from thawlab.launch.folder_lock import held
from thawlab.tracking.processes import this_process


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def holder(folder, and_then=lambda: None):
    """Another process that holds the folder until it is killed; gives its number."""
    child = os.fork()
    if child == 0:
        with held(folder, "key=value"):
            and_then()
            time.sleep(60)
        os._exit(0)
    while not (folder / "holder").is_file():
        time.sleep(0.01)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_folder_that_another_process_holds_is_refused_with_its_number_and_machine(tmp_path):
    with holder(tmp_path / "run") as pid, pytest.raises(ConfigError) as refused, held(tmp_path / "run", "resume=12"):
        pass
    machine = os.uname().nodename
    assert str(refused.value) == (
        f"resume=12: process {pid} on {machine} (this machine) is still at work in {tmp_path / 'run'}; "
        "wait for it, or end it first"
    )


def test_a_killed_process_holds_nothing_and_what_it_left_half_written_is_removed(tmp_path):
    with holder(tmp_path):
        (tmp_path / "last.ckpt.123.part").touch()
    assert (tmp_path / "holder").is_file()
    with held(tmp_path, "resume=12"):
        assert names(tmp_path) == ["holder", "holder.lock"]
        assert (tmp_path / "holder").read_text() == this_process()


def test_a_full_disk_is_told_and_nothing_is_left_in_the_folder(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_lock, "write_atomically", full)
    with pytest.raises(ConfigError) as refused, held(tmp_path / "run", "resume=12"):
        raise AssertionError
    assert str(refused.value) == (
        f"resume=12: {tmp_path / 'run'} cannot be written (No space left on device); make room, or name another folder "
        "by hydra.run.dir=FOLDER"
    )
    assert names(tmp_path / "run") == []


def test_a_folder_in_which_nothing_was_left_can_be_removed(tmp_path):
    with held(tmp_path / "empty", "resume=12"):
        pass
    assert names(tmp_path / "empty") == []
    with held(tmp_path / "full", "resume=12"):
        (tmp_path / "full" / "file").touch()
    assert names(tmp_path / "full") == ["file", "holder.lock"]


def test_a_lock_that_everyone_gets_does_not_let_two_in(tmp_path, monkeypatch):
    with holder(tmp_path):
        monkeypatch.setattr(folder_lock, "_LOCK", "another.lock")  # as if the file system had not locked
        with pytest.raises(ConfigError, match="is still at work in"), held(tmp_path, "resume=12"):
            pass


def test_a_folder_that_cannot_be_written_is_told_in_one_message(tmp_path):
    (tmp_path / "outputs").touch()
    said = r"^resume=12: .*outputs/run cannot be written \(Not a directory\); "
    with pytest.raises(ConfigError, match=said), held(tmp_path / "outputs" / "run", "resume=12"):
        pass
