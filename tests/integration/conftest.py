from pathlib import Path
from typing import NamedTuple

import pytest
from real_runs import TINY, train
from tiny_runs import make_images


class Finished(NamedTuple):
    """A run that went through, undisturbed."""

    folder: Path
    arguments: tuple[str, ...]
    stdout: str


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 30 images in three classes."""
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Finished:
    """The run of three epochs that the others are compared with."""
    folder = tmp_path_factory.mktemp("finished")
    arguments = (*TINY, "epochs=3", "freeze=1")
    result = train(folder, *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return Finished(folder, arguments, result.stdout)
