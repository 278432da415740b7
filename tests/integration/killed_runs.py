"""Runs that are killed and gone on with, each attempt in a process forked from this one, which has everything loaded.

`Killed(setting, folder)` knows the run that was never stopped; `round(number)` kills one at a moment drawn from the
number, goes on with it, kills that perhaps, too, and returns what differs in the end.
"""

import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_runs import SETTINGS, make_images, make_weights

# isort: split
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  (loaded here once)
import torch

import thawlab.runs.run  # noqa: F401
from thawlab.cli import main
from thawlab.system import atomic
from thawlab.tracking.store import open_store

STRATEGIES = {
    "one phase": ("strategy=finetune", "freeze=2", "epochs=3", "cache=off"),
    "one phase, cached": ("strategy=finetune", "freeze=2", "epochs=3", "cache=require", "augment=none"),
    "a probe, cached": (
        "strategy=linear_probe", "strategy.solver=gradient", "epochs=4", "cache=require", "augment=none",
    ),
    "two phases, averaged, with patience": (
        "strategy=freeze_unfreeze", "strategy.freeze_epochs=3", "epochs=5", "trainer.ema=0.8", "trainer.patience=1",
        "cache=off",
    ),
    "several phases, cached": (
        "strategy=gradual", "strategy.epochs_per_phase=1", "freeze=2", "epochs=3", "cache=require", "augment=none",
    ),
    "solved, then tuned": ("strategy=lp_ft", "epochs=3", "cache=auto"),
    "a regulariser": ("strategy=l2_sp", "freeze=1", "epochs=3", "cache=off"),
}  # fmt: skip
_SECONDS = 600  # for an attempt, on a busy machine


@dataclass(frozen=True)
class Kill:
    """When an attempt is killed.

    Attributes:
        seconds: after its start; None if at a point.
        point: torn, before or after: while, before or after the file that is counted by `number` is put into its place.
        number: of the file, from 0.
        jobs: of a sweep that have ended by then; 0 if they do not matter.
    """

    seconds: float | None = None
    point: str = ""
    number: int = 0
    jobs: int = 0

    def is_due(self, folder: Path, passed: float) -> bool:
        """Whether the attempt in the folder, which has taken so many seconds, is to be killed from outside."""
        if self.jobs:
            return len(list(folder.glob("outputs/*/*/outcome.json"))) >= self.jobs
        return self.seconds is not None and passed > self.seconds

    def __str__(self) -> str:
        return f"after {self.seconds:.2f} s" if self.seconds is not None else f"{self.point} file {self.number}"


def prepare(folder: Path) -> list[str]:
    """Images, weights and an empty store for all rounds; the arguments that name them."""
    make_images(folder / "images")
    weights = make_weights(folder / "weights.safetensors", "test_resnet")
    child = os.fork()
    if child == 0:
        open_store(None, folder / "mlruns")
        os._exit(0)
    os.waitpid(child, 0)
    folder_of_one = folder / "loaded"
    folder_of_one.mkdir()
    named = (f"dataset.root={folder / 'images'}", "backbone=test_resnet", f"backbone.checkpoint_path={weights}")
    arguments = ["dataset=folder", *named, *(each for each in SETTINGS if each != "cache=off")]
    attempt(folder_of_one, [*arguments, *STRATEGIES["one phase"]])
    for name in (folder_of_one / "modules").read_text().split():  # what a run loads late is loaded before the forks
        with suppress(Exception):
            importlib.import_module(name)
    return arguments


def attempt(folder: Path, arguments: list[str], kill: Kill | None = None) -> tuple[int, str, int]:
    """Run the command in the folder, in a process of its own: exit code or −9, its output, how many files it put."""
    log, counted = folder / "log", folder / "counted"
    counted.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _child(folder, log, counted, arguments, kill)
    began = time.monotonic()
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        passed = time.monotonic() - began
        if passed > _SECONDS or (kill and kill.is_due(folder, passed)):
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
        time.sleep(0.005)
    return (
        os.waitstatus_to_exitcode(ended[1]),
        log.read_text(errors="replace"),  # a job of a sweep that was killed may still be printing into it
        int(counted.read_text() or 0) if counted.exists() else 0,
    )


def _child(folder: Path, log: Path, counted: Path, arguments: list[str], kill: Kill | None) -> None:
    code = 1
    try:
        os.setsid()
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        os.chdir(folder)
        files = _watch(kill)
        code = main.train(arguments)
        counted.write_text(str(len(files)))
        (folder / "modules").write_text(" ".join(sys.modules))
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc(file=sys.stderr)
        sys.stderr.flush()
    finally:
        os._exit(code)


def _watch(kill: Kill | None) -> list[int]:
    """Count the files that are put into their place, and kill this process at one of them."""
    files: list[int] = []
    sync, sync_folder = atomic._sync, atomic._sync_folder

    def at(point: str) -> bool:
        return kill is not None and kill.seconds is None and (kill.point, kill.number) == (point, len(files))

    def before(descriptor: int) -> None:
        sync(descriptor)
        if at("torn"):
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
        if at("torn") or at("before"):
            os.killpg(0, signal.SIGKILL)

    def after(path: Path) -> None:
        sync_folder(path)
        if at("after"):
            os.killpg(0, signal.SIGKILL)
        files.append(1)

    atomic._sync, atomic._sync_folder = before, after  # type: ignore[assignment]
    return files


def outcome(folder: Path) -> dict[str, Any]:
    """What a run left: digest of its weights, its metrics, its status, and whatever should not be there."""
    (path,) = folder.glob("outputs/*/best.ckpt")
    state = torch.load(path, weights_only=True)["state_dict"]
    digest = hashlib.sha256(b"".join(name.encode() + value.numpy().tobytes() for name, value in state.items()))
    metrics = json.loads((path.parent / "result.json").read_text())["metrics"]
    kept = {name: value for name, value in metrics.items() if not name.startswith(("cost/", "cache/"))}
    with sqlite3.connect(folder / "mlruns" / "mlflow.db") as store:
        statuses = [row[0] for row in store.execute("select status from runs")]
        errors = [row[0] for row in store.execute("select value from tags where key = 'error'")]
    # A run that was killed before its id was written goes on in a folder of its own, and leaves the other as it is.
    left = [partial.name for partial in path.parent.glob("**/*.part")]
    return {"weights": digest.hexdigest(), **kept, "statuses": statuses, "errors": errors, "left": left}


class Killed:
    """One setting: the run that was never stopped, and rounds that are held against it."""

    def __init__(self, strategy: str, folder: Path, common: list[str], store: Path) -> None:
        self.folder = folder
        self.arguments = [*common, *STRATEGIES[strategy]]
        self.store = store
        self.undisturbed = self._new("undisturbed")
        began = time.monotonic()
        code, output, self.files = attempt(self.undisturbed, self.arguments)
        assert code == 0, output
        self.seconds = time.monotonic() - began
        self.expected = outcome(self.undisturbed)

    def round(self, number: int) -> tuple[str, list[str]]:
        """What was done, and what is wrong then: nothing if all is right."""
        rng = random.Random(number)
        folder = self._new(str(number))
        story, wrong, resume, output = [], [], False, ""
        kills: list[Kill | None] = [self._draw(rng), *([self._draw(rng)] if rng.random() < 0.4 else []), None, None]
        for kill in kills:
            code, output, _ = attempt(folder, [*self.arguments, *(["resume=true"] if resume else [])], kill)
            story.append(f"{'resumed, ' if resume else ''}{kill or 'let go'}: {code}")
            if "Traceback" in output:
                wrong.append(f"{story[-1]}: {output}")
            if (
                "has no interrupted run with these settings" in output
            ):  # it was killed before it was recorded, or is over
                resume = False
                if any(folder.glob("outputs/*/result.json")):
                    break
                shutil.rmtree(folder / "outputs", ignore_errors=True)
                kills.append(None)
                continue
            resume = True
            if code == 0:
                break
        try:
            found = outcome(folder)
        except (OSError, ValueError, KeyError) as error:
            return "; ".join(story), [*wrong, f"lost: {error!r}: {output}"]
        wrong += [
            f"{key}: {found.get(key)} in place of {value}"
            for key, value in self.expected.items()
            if found[key] != value
        ]
        if not wrong:
            shutil.rmtree(folder)
        return "; ".join(story), wrong

    def _draw(self, rng: random.Random) -> Kill:
        if rng.random() < 0.5:
            return Kill(seconds=rng.uniform(0.0, self.seconds * 1.05))
        return Kill(point=rng.choice(("torn", "before", "after")), number=rng.randrange(self.files))

    def _new(self, name: str) -> Path:
        folder = self.folder / name
        (folder / "mlruns").mkdir(parents=True)
        for path in self.store.parent.glob(self.store.name + "*"):
            shutil.copyfile(path, folder / "mlruns" / path.name)
        return folder
