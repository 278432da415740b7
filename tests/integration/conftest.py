from pathlib import Path
from typing import NamedTuple

import pytest
from real_runs import TINY, train


class Finished(NamedTuple):
    """A run that went through, undisturbed."""

    folder: Path
    arguments: tuple[str, ...]
    stdout: str


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Finished:
    """The run of three epochs that the others are compared with."""
    folder = tmp_path_factory.mktemp("finished")
    arguments = (*TINY, "epochs=3", "freeze=1")
    result = train(folder, *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return Finished(folder, arguments, result.stdout)
