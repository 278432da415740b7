"""What came of a command, in a file for the program that started it: how `thawlab.train` gets its results."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from thawlab.launch import owners
from thawlab.system.atomic import write_atomically

if TYPE_CHECKING:
    from thawlab.tracking.run_record import RunRecord
    from thawlab.tracking.store import Store

VARIABLE = "THAWLAB_ENDING"
"""Names that file in the environment of the command, and of the ranks that it starts."""


def is_awaited() -> bool:
    """Whether a program waits for the file."""
    return VARIABLE in os.environ


def tell(**facts: object) -> None:
    """Add to what is told.

    Args:
        facts: `folder` of the run, or `parent_id` of the sweep and `order`, the hashes of its configurations in the
            order of its jobs; `uri` and `root` of their store; `error`, the name of an exception, and its `message`.
    """
    if is_awaited():
        path = Path(os.environ[VARIABLE])
        write_atomically(path, json.dumps({**read(path), **facts}), private=True)  # an address may hold a password


def read(path: Path) -> dict[str, Any]:
    """What was told, beside the above `store`, its address, and `runs`, a mapping each; empty if nothing was."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


@contextmanager
def told() -> Iterator[None]:
    """Tell how the block ends, if a program waits for that; and end with that program."""
    if not is_awaited():
        yield
        return
    owners.end_with_owner()
    try:
        yield
        _tell_runs()
    except Exception as error:
        tell(error=type(error).__name__, message=str(error))
        raise


def _tell_runs() -> None:
    known = read(Path(os.environ[VARIABLE]))
    if not {"folder", "parent_id"} & known.keys():  # help was shown, or it was refused
        return
    from thawlab.tracking.past_sweeps import runs_of_sweep
    from thawlab.tracking.store import open_store

    store = open_store(known["uri"], Path(known["root"]))
    if "parent_id" in known:
        place = {name: number for number, name in enumerate(known.get("order", ()))}
        found = runs_of_sweep(store, known["parent_id"])  # they began in any order, and some below other sweeps
        found.sort(key=lambda run: (place.get(run.tags.get("config_hash", ""), -1), _numbers(_folder(run))))
        runs = [_run(store, each.run_id) for each in found]
    else:
        folder = Path(known["folder"])
        heads = sorted(folder.glob("heads/*/run_id"), key=lambda path: _numbers(str(path)))
        runs = [_run(store, path.read_text(encoding="utf-8")) for path in heads or folder.glob("run_id")]
        if heads:
            known["parent_id"] = runs[0]["parent_id"]
    tell(runs=runs, store=store.uri, parent_id=known.get("parent_id"))


def _run(store: "Store", run_id: str) -> Mapping[str, Any]:
    from thawlab.tracking.history import read_run
    from thawlab.tracking.run_record import PARENT_TAG

    run = read_run(store, run_id)
    return {
        "run_id": run_id,
        "status": run.status,
        "metrics": run.metrics,
        "folder": _folder(run),
        "config": yaml.safe_load(run.config or "{}"),
        "overrides": list(filter(None, run.tags.get("overrides", "").split("\n"))),
        "error": run.tags.get("error"),
        "parent_id": run.tags.get(PARENT_TAG),
    }


def _folder(run: "RunRecord") -> str:
    return run.tags.get("output_dir", "")


def _numbers(path: str) -> list[int]:
    """The jobs of a sweep, and the heads of a job, have folders named by their numbers."""
    return [int(each) for each in re.findall(r"\d+", path)]
