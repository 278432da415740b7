import sys

import pytest
import torch

from thawlab.cli import main
from thawlab.config.schema import ConfigError
from thawlab.training.devices import check_devices


class Asked:
    """What a trainer's settings say of devices."""

    def __init__(self, name: str, accelerator: str, devices: int | str) -> None:
        self.name, self.accelerator, self.devices = name, accelerator, devices


@pytest.fixture
def gpus(monkeypatch):
    def have(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    return have


@pytest.mark.parametrize(
    ("asked", "there", "told"),
    [
        (("gpu", "gpu", 1), 0, "trainer=gpu: there is no GPU to train on"),
        (("ddp", "gpu", "auto"), 0, "trainer.accelerator=gpu: there is no GPU to train on"),
        (("ddp", "gpu", 3), 2, "trainer.devices=3: there are 2 GPUs to train on; use at most 2"),
        (("ddp", "auto", 2), 1, "trainer.devices=2: there is 1 GPU to train on; use at most 1"),
    ],
)
def test_devices_that_are_not_there_are_refused(gpus, asked, there, told):
    gpus(there)
    with pytest.raises(ConfigError, match=told):
        check_devices(Asked(*asked))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "asked", [("gpu", "gpu", 1), ("ddp", "auto", 2), ("ddp", "cpu", 9), ("ddp", "gpu", "auto"), ("cpu", "cpu", 1)]
)
def test_devices_that_are_there_and_processes_on_the_cpu_are_accepted(gpus, asked):
    gpus(2)
    check_devices(Asked(*asked))  # type: ignore[arg-type]


@pytest.mark.parametrize("sweep", [(), ("-m", "seed=0,1")])
def test_a_gpu_that_is_not_there_is_told_in_one_line_before_anything_is_built(
    gpus, monkeypatch, tmp_path, capsys, sweep
):
    gpus(0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "thawlab.runs.run", None)  # importing it would fail
    assert main.train([*sweep, "trainer=gpu"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: trainer=gpu: there is no GPU to train on")
    assert len(captured.err.splitlines()) == 1
    assert not list(tmp_path.glob("outputs/*"))
