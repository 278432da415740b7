from pathlib import Path

import pytest

from thawlab.config.job import Job
from thawlab.config.lost_workers import lost_worker
from thawlab.launch import process
from thawlab.tracking.lifecycle import failure_tags
from without_hydra import configured

# What torch says of workers without shared memory.
NO_ROOM = (
    "DataLoader worker (pid 41) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
    "shared memory. Please try to raise your shared memory limit.",
    "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\nRuntimeError: "
    "unable to allocate shared memory(shm) for file </torch_41_12>: No space left on device (28)",
    "unable to write to file </torch_41_12>: No space left on device (28)",
)


@pytest.mark.parametrize("text", NO_ROOM)
def test_a_worker_without_shared_memory_is_told_with_the_way_out(text):
    said = str(lost_worker(RuntimeError(text)))
    assert said.startswith("trainer.workers: the shared memory in /dev/shm ran out")
    assert "trainer.workers=0" in said
    assert "--shm-size" in said
    assert failure_tags(RuntimeError(text)) == {"error": said}


def test_it_is_found_behind_the_error_that_came_of_it():
    error = RuntimeError("DataLoader worker (pid(s) 41) exited unexpectedly")
    error.__cause__ = RuntimeError(NO_ROOM[0])
    assert "trainer.workers=0" in str(lost_worker(error))


def test_a_worker_that_the_system_ended_points_to_the_memory():
    assert "memory ran out" in str(
        lost_worker(RuntimeError("DataLoader worker (pid 41) is killed by signal: Killed. "))
    )


def test_other_errors_are_left_as_they_are():
    assert lost_worker(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert lost_worker(ValueError("shared memory")) is None


def test_a_run_that_lost_a_worker_ends_in_one_message(tmp_path: Path, monkeypatch, capsys):
    def broken(_: Job) -> int:
        raise RuntimeError(NO_ROOM[0])

    monkeypatch.setattr(process, "_run_here_or_distributed", broken)
    monkeypatch.setattr(process.preflight, "check_store", lambda _: None)
    monkeypatch.setattr(process.preflight, "check_inputs", lambda _: None)
    assert process.start(Job(configured(), tmp_path)) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: trainer.workers: the shared memory")
    assert len(said.splitlines()) == 1
