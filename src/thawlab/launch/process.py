"""Starting one run: in this process, or in several of them under torchrun when it is distributed.

`python -m thawlab.launch.process FOLDER` runs the job that was saved in the folder; a sweep and torchrun start it so,
with the configuration as it was composed once, so that no process composes it anew or replays a sweep.
"""

import errno
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Protocol

from thawlab.config.divergence import DivergedError
from thawlab.config.job import Job, remove_if_empty
from thawlab.config.lost_workers import WorkerLostError, lost_worker
from thawlab.config.schema import ConfigError
from thawlab.data.changed_images import ImageChangedError
from thawlab.data.loader_workers import start_server
from thawlab.launch import ending, owners, parsing, preflight, ranks, run_folder
from thawlab.launch.folder_lock import held
from thawlab.system import stopping, surroundings
from thawlab.system.atomic import remove_partial, write_atomically
from thawlab.system.process_rank import has_rank, process_rank
from thawlab.training.devices import check_devices, device_count


class Child(Protocol):
    """What is needed of `subprocess.Popen`."""

    def send_signal(self, sig: int, /) -> None: ...

    def wait(self) -> int: ...


# Asked for by a user who wants the traceback of a message.
_TRACEBACK = "THAWLAB_TRACEBACK"
_PATIENCE = 20.0  # seconds


def load_job(folder: Path) -> Job:
    """Read the job that was saved in the folder."""
    content = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    config, overrides = parsing.parse(content["config"]), tuple(content["overrides"])
    variants = tuple(parsing.parse(each) for each in content["variants"])
    return Job(config, folder, overrides, content["sweep"], content["resume_id"], variants, content["rerun_of"])


def start(job: Job) -> int:
    """Run the job; return the process's exit code: 0, 1 failed, 2 cannot be run, 128 + signal when stopped."""
    ranks.forget_strangers()
    try:
        if _is_first():
            preflight.check_store(job.config)
        if job.config.resume is not False and job.resume_id is None:
            from thawlab.launch.resume import resolve

            remove_if_empty(job.output_dir)  # it goes on in the folder that it has
            job = resolve(job)
        if _is_first():
            preflight.check_inputs(job.config)
            tracking = job.config.tracking
            ending.tell(folder=str(job.output_dir), uri=tracking.uri, root=tracking.root)
        return _run_here_or_distributed(job)
    except ConfigError as error:
        remove_if_empty(job.output_dir)
        return refuse(error)
    except DivergedError as error:
        if not _is_first():
            return 0  # the first process says it, and is still closing the run: torchrun would end it
        refuse(error)
        return 1
    except ImageChangedError as error:
        refuse(error)
        return 1
    except RuntimeError as error:
        lost = lost_worker(error)
        if lost is None:
            raise
        refuse(lost)
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        if _is_first():
            told = surroundings.shown(str(error))
            retry = " retry=failed" if job.sweep else ""
            print(f"error: {told}; make room, then go on with: resume=true{retry}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        code = getattr(error, "exit_code", 128 + signal.SIGINT)
        if _is_first():
            print("\nstopped" if job.variants or job.sweep else "\nstopped; go on with: resume=true", file=sys.stderr)
        return code


def refuse(error: ConfigError | DivergedError | ImageChangedError | WorkerLostError) -> int:
    """Say what is wrong with what was asked for, and nothing else unless a traceback was asked for."""
    if not _is_first():
        time.sleep(_PATIENCE)  # the first process says it, and torchrun then ends this one, unless only this one failed
    ending.tell(error=type(error).__name__, message=str(error))
    if os.environ.get(_TRACEBACK):
        print(surroundings.shown("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    elif not ending.is_awaited():
        lines = surroundings.shown(str(error)).splitlines()
        print("\n".join(["error: " + lines[0], *("       " + line for line in lines[1:])]), file=sys.stderr)
    return 2


def _run_here_or_distributed(job: Job) -> int:
    check_devices(job.config.trainer)
    if job.config.trainer.name == "ddp" and not has_rank():
        count = device_count(job.config.trainer)
        if count > 1:
            with _own_folder(job):
                job.save()
            return _torchrun(job.output_dir, count)  # the first rank, which writes the checkpoints, holds the folder
    with _own_folder(job) if _is_first() else nullcontext():
        return _run_here(job)


def _run_here(job: Job) -> int:
    from thawlab.console import terminal

    if job.config.trainer.workers:
        start_server()
    with terminal.status("loading PyTorch, timm, Lightning and MLflow"):
        from thawlab.runs.run import run

    return int(any(member.failed for member in run(job)))


@contextmanager
def _own_folder(job: Job) -> Iterator[None]:
    """Hold the output folder, in which no other run may have left its files.

    Raises:
        ConfigError: another process holds it, it cannot be written, or it is that of another run.
    """
    folder = job.output_dir
    named = f"hydra.sweep.dir={folder.parent}" if job.sweep else f"hydra.run.dir={folder}"
    with held(folder, f"resume={job.resume_id}" if job.resume_id else named):
        if run_folder.is_used(folder) and (job.resume_id is None or run_folder.run_in(folder) != job.resume_id):
            owner = run_folder.run_in(folder)
            name = f"the run {owner}" if owner else "another run"
            raise ConfigError(
                f"{named}: {folder} holds the files of {name}; name another folder, or remove this one; an "
                "interrupted run goes on by resume=ID"
            )
        for each in (*folder.glob("checkpoints/*"), folder / "predictions"):
            remove_partial(each)
        yield


def _torchrun(folder: Path, processes: int) -> int:
    """Start the processes; a signal is passed on once, and each of them then ends in order."""
    code = folder / "exit_code"
    code.unlink(missing_ok=True)
    command = ["-P", "-m", "thawlab.launch.torchrun", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", _threads(processes))}
    result = run_child([sys.executable, *command, "-m", "thawlab.launch.process", str(folder)], environment)
    # torchrun answers any failure by 1; the first rank left the code it ended with.
    return int(code.read_text()) if code.is_file() and result else result


def _threads(processes: int) -> str:
    return str(max((os.cpu_count() or 1) // processes, 1))


def run_child(
    command: Sequence[str],
    environment: dict[str, str] | None = None,
    output: int | None = None,
    popen: Callable[..., Child] | None = None,
) -> int:
    """Run a command in a process group of its own; a signal to this process reaches it, a double one once.

    Args:
        command: what to run.
        environment: in which; None for that of this process.
        output: a file that is open for what it prints; None for where this process prints.
        popen: starts it, in the place of `subprocess.Popen`.

    Raises:
        KeyboardInterrupt: after the child has ended on SIGINT, SIGTERM or SIGHUP.
    """
    child = (popen or subprocess.Popen)(
        command,
        env=owners.owned(os.environ if environment is None else environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output and subprocess.STDOUT,
        process_group=0,
    )
    received: list[int] = []
    last = -stopping.REPEAT_SECONDS

    def forward(signum: int, _frame: FrameType | None) -> None:
        nonlocal last
        stopping.leave_closed_terminal(signum)
        now = time.monotonic()
        # Once more if it is given once more later: Python drops what a handler raises inside a finaliser.
        if now - last >= stopping.REPEAT_SECONDS:
            # A child inherits that SIGINT is ignored, as it is in a script's background job.
            child.send_signal(signal.SIGTERM if signum == signal.SIGINT and deaf else signum)
            last = now
        received.append(signum)

    deaf = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    before = stopping.handle_stops(forward, always=(signal.SIGINT, signal.SIGTERM))
    try:
        code = child.wait()
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if received:
        raise stopping.stopped_by(received[0])
    return code if code >= 0 else 128 - code


def _is_first() -> bool:
    return process_rank() == 0


def main() -> None:
    """Run the job saved in the folder given as the only argument."""
    surroundings.prepare()
    folder = Path(sys.argv[1])
    owners.end_with_owner()
    code = 1
    try:
        code = start(load_job(folder))
    finally:
        if _is_first():
            write_atomically(folder / "exit_code", str(code))
    sys.exit(code)


if __name__ == "__main__":
    main()
