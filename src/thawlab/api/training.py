"""`thawlab.train`."""

import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

from thawlab.api.results import Result, Results, results_of
from thawlab.config.schema import ConfigError

_FORCES_COLOUR = ("FORCE_COLOR", "CLICOLOR_FORCE")  # set by notebooks; a progress bar in colour moves the cursor, too


def train(
    *words: str, multirun: bool = False, sweep: Mapping[str, Iterable[object]] | None = None, **settings: object
) -> Result | Results:
    """Train, test and record one run, or a sweep, as `thawlab train` does.

    It happens in a process of its own: seeds, threads, memory and signals of this one stay as they are.

    Args:
        words: as on the command line: `"freeze=4"`, `"-m"`.
        multirun: whether the words are those of a sweep, as `-m` says.
        sweep: key → values to go through, in a sweep.
        settings: values by key, `freeze=4`, `backbone="resnet50"`, `**{"optimizer.lr": 0.1}`.

    Returns:
        The run; of a sweep, or of heads that are trained together by lists, all of them, failed ones included.

    Raises:
        ConfigError: what was asked for cannot be run; nothing was.
        RunError: the run failed, or all runs of a sweep did.
        KeyboardInterrupt: after the training has ended as KILLED; `resume=True` goes on with it.
    """
    from thawlab.launch import ending, process, ranks

    if ranks.under_torchrun():
        raise ConfigError("torchrun started this program several times; start it once: trainer=ddp starts the others")
    given = [*words, *_words(settings, sweep or {})]
    if multirun or sweep:
        given.insert(0, "-m")
    with TemporaryDirectory(prefix="thawlab-") as folder, _output() as (output, environment):
        path = Path(folder) / "ending.json"
        command = [sys.executable, "-P", "-m", "thawlab", "train", *given]
        code = process.run_child(command, {**environment, ending.VARIABLE: str(path)}, output)
        told = ending.read(path)
    return results_of(code, told)


def _words(settings: Mapping[str, object], sweep: Mapping[str, Iterable[object]]) -> list[str]:
    from thawlab.launch.quoting import written

    words = []
    for key, value in settings.items():
        try:
            words.append(f"{key}={written(value)}")
        except TypeError as error:
            raise ConfigError(f"{key}={value!r}: {error}") from error
    return words + [f"{key}={','.join(map(written, values))}" for key, values in sweep.items()]


@contextmanager
def _output() -> Iterator[tuple[int | None, dict[str, str]]]:
    """Where a child process writes, and its environment: to the terminal, or by a pipe to what stands for one here."""
    if _is_own(sys.stdout, 1) and _is_own(sys.stderr, 2):
        yield None, dict(os.environ)
        return
    end, beginning = os.pipe()
    reader = threading.Thread(target=_copy, args=(end, sys.stdout), daemon=True)
    reader.start()
    try:
        kept = {key: value for key, value in os.environ.items() if key not in _FORCES_COLOUR}
        yield beginning, {**kept, "PYTHONUNBUFFERED": "1"}
    finally:
        os.close(beginning)
        reader.join(5.0)  # what outlives the child may hold the pipe


def _is_own(stream: TextIO | None, number: int) -> bool:
    try:
        return stream is None or stream.fileno() == number
    except (OSError, ValueError, AttributeError):  # a notebook's, or one that a test listens to
        return False


def _copy(end: int, stream: TextIO) -> None:
    with open(end, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            stream.write(line)
            stream.flush()
