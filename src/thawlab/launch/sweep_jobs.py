"""The jobs of a sweep: each in a process of its own, and what came of it as a file in its folder."""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from thawlab.config.job import Job, config_hash
from thawlab.launch import ending, warm
from thawlab.launch.owners import owner_is_gone
from thawlab.launch.process import run_child as run_process
from thawlab.launch.run_folder import belongs_to, is_used
from thawlab.system.atomic import write_atomically
from thawlab.system.redaction import redacted
from thawlab.system.surroundings import shown

# The folder of the sweep in progress; workers of a parallel launcher inherit it.
FOLDER_VARIABLE = "THAWLAB_SWEEP_FOLDER"
_SHARED = ("parent_id", "sweep_id", "jobs", "title", "varying")


def sweep_facts(folder: Path) -> dict[str, Any]:
    """What the jobs and the end of a sweep know of it, from its folder."""
    return json.loads((folder / "sweep.json").read_text(encoding="utf-8"))


def keep_facts(folder: Path, content: Mapping[str, Any]) -> None:
    """Write them, whole or not at all."""
    write_atomically(folder / "sweep.json", json.dumps(content), private=True)  # an address may hold a password


def run_child(job: Job, number: int, in_turn: bool) -> None:
    """Run one job of the sweep in a process of its own; a job that fails is told, and the sweep goes on.

    What an earlier start of the sweep has done is left as it is.
    """
    if owner_is_gone():  # a launcher's worker whose sweep was killed: nobody wants the rest
        return
    sweep = sweep_facts(Path(os.environ[FOLDER_VARIABLE]))
    part = sweep["plan"].get(str(number), {})
    own = label(job.overrides, sweep["varying"])
    told = f"run {number}/{sweep['jobs']}: {own}"
    if part.get("done"):
        print(shown(f"✓ {told}: done before"), flush=True)
        return
    if part.get("failed"):
        print(shown(f"✗ {told}: FAILED before; retry=failed tries it again"), flush=True)
        return
    print(shown(f"▶ {told}"), flush=True)
    began, status, why, folder = time.monotonic(), "KILLED", "", job.output_dir
    try:
        job = _planned(replace(job, sweep={**{key: sweep[key] for key in _SHARED}, "number": number}), part)
        folder = job.output_dir
        status = _run(job, in_turn)
    except OSError as error:  # such as a disk without room: the next job may find some
        status, why = "FAILED", f"\n    {error}"
    finally:
        outcome = {"status": status, "label": own, "number": number, "seconds": time.monotonic() - began}
        with suppress(OSError):  # what it does not say is taken for FAILED at the end
            write_atomically(folder / "outcome.json", json.dumps(outcome))
        mark = "✓" if status == "FINISHED" else "✗"
        tail = why or _tail(folder, status)
        print(shown(f"{mark} {told}: {status}, {outcome['seconds']:.0f} s{tail}"), flush=True)


def _planned(job: Job, part: Mapping[str, Any]) -> Job:
    """The job, or what is left of it: in the run and in the folder that it has."""
    again, finished = part.get("again", {}), set(part.get("finished", ()))
    known = {key: part[key] for key in ("sister",) if key in part}
    job = replace(job, sweep={**job.sweep, **known, **({"again": again} if job.variants else {})})
    if job.variants:
        left = tuple(each for each in job.variants if config_hash(each) not in finished)
        job = replace(job, variants=left, config=left[0])
    elif again:
        (run_id,) = again.values()
        job = replace(job, resume_id=run_id)
        for folder in (Path(part.get("folder") or job.output_dir), job.output_dir):
            if belongs_to(folder, run_id):
                return replace(job, output_dir=folder)
    folder, number = job.output_dir, 1
    while is_used(folder):  # by heads, or by a run that was deleted since
        number += 1
        folder = job.output_dir.with_name(f"{job.output_dir.name}_{number}")
    return replace(job, output_dir=folder)


def _run(job: Job, in_turn: bool) -> str:
    """Run the job; returns its status."""
    job.save()
    (job.output_dir / "exit_code").unlink(missing_ok=True)  # of an earlier start
    command = [sys.executable, "-P", "-m", "thawlab.launch.process", str(job.output_dir)]
    with nullcontext() if in_turn else (job.output_dir / "log.txt").open("w") as log:
        code = _started(command, log and log.fileno(), job.config.sweep.warm)
    return "FINISHED" if code == 0 else "KILLED" if code > 128 else "FAILED"


def in_turn(launcher: Mapping[str, Any]) -> bool:
    """Whether Hydra's launcher runs one job after the other, in this process."""
    return "basic" in launcher["_target_"]


def _started(command: Sequence[str], output: int | None, warm_up: bool) -> int:
    """Run the command of a job to its end; returns its code."""
    environment = job_environment()
    if warm_up:
        with suppress(OSError):  # none can be forked, for a reason that a new process may tell
            return run_process(command, environment, output, warm.Forked)
    return run_process(command, environment, output)


def job_environment() -> dict[str, str]:
    """In which the jobs of the sweep run: that of this process, without what is for the sweep alone."""
    return {key: value for key, value in os.environ.items() if key not in (FOLDER_VARIABLE, ending.VARIABLE)}


def label(overrides: Sequence[str], keys: Sequence[str]) -> str:
    """What a job is called beside the others: its settings of the keys in which they differ."""
    return redacted(" ".join(each for each in overrides if each.partition("=")[0] in keys) or " ".join(overrides))


def _tail(folder: Path, status: str) -> str:
    """The end of a failed job's log, where it did not go to the terminal."""
    log = folder / "log.txt"
    if status == "FINISHED" or not log.is_file():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
    return "\n" + "\n".join(f"    {line}" for line in lines)
