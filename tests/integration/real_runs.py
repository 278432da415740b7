"""Real training processes, small, started and ended as a user does, and what they leave behind."""

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from torch import Tensor

# A network of 0.4 M parameters on digits of 32 × 32 pixels: 10 steps an epoch.
TINY = (
    "backbone=test_resnet",
    "backbone.pretrained=false",
    "image_size=32",
    "batch_size=128",
    "trainer.workers=0",
    "trainer.min_steps=0",
)
_SECONDS = 400  # for a busy machine; a run takes about ten


class _Warm:
    """A process that has everything loaded, and forks one for each command."""

    _process: "subprocess.Popen[str] | None" = None

    @classmethod
    def _asked(cls, *order: object) -> int | None:
        if cls._process is None:
            cls._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("warm_program.py"))],
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            atexit.register(cls._process.kill)
        assert cls._process.stdin is not None
        assert cls._process.stdout is not None
        cls._process.stdin.write(json.dumps(order) + "\n")
        cls._process.stdin.flush()
        return json.loads(cls._process.stdout.readline())

    @classmethod
    def start(cls, folder: Path, out: Path, err: Path, program: str, arguments: Sequence[str]) -> int:
        """The process of a command that was started."""
        process = cls._asked("start", str(folder), str(out), str(err), program, list(arguments))
        assert process is not None
        return process

    @classmethod
    def code(cls, process: int) -> int | None:
        """What it ended with, once; None while it is at work."""
        return cls._asked("poll", process)

    @classmethod
    def run(cls, folder: Path, program: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryDirectory() as logs:
            out, err = Path(logs, "out"), Path(logs, "err")
            code = cls._asked("wait", cls.start(folder, out, err, program, arguments))
            assert code is not None
            return subprocess.CompletedProcess(list(arguments), code, out.read_text(), err.read_text())


def train(folder: Path, *arguments: str, program: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run `train.py`, or another program, in the folder to its end."""
    if not program:
        return _Warm.run(folder, "train.py", arguments)
    command = [sys.executable, *program, *arguments]
    return subprocess.run(
        command, cwd=folder, env=_environment(), capture_output=True, text=True, check=False, timeout=3 * _SECONDS
    )


def thawlab(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of `thawlab` in the folder to its end."""
    return _Warm.run(folder, "thawlab", arguments)


class Started:
    """The program at work in a folder, as a shell starts it: in a process group of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.process = _Warm.start(folder, folder / "log", folder / "log", "train.py", arguments)

    def when(self, happened: Callable[[], bool]) -> "Started":
        """Wait until something has happened that the program leaves behind."""
        deadline = time.monotonic() + _SECONDS
        while not happened():
            assert _Warm.code(self.process) is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.02)
        return self

    def end_by(self, signum: int) -> int:
        """Send one signal to the process, as `kill` does; the exit code."""
        os.kill(self.process, signum)
        return self._code()

    def end_by_ctrl_c(self) -> int:
        """What a terminal does: SIGINT to the whole process group; the exit code."""
        os.killpg(self.process, signal.SIGINT)
        return self._code()

    def output(self) -> str:
        return (self.folder / "log").read_text()

    def _code(self) -> int:
        deadline = time.monotonic() + _SECONDS
        while (code := _Warm.code(self.process)) is None:
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.05)
        return code


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("THAWLAB_", "MLFLOW_", "HYDRA_"))}
    return kept | {"OMP_NUM_THREADS": "1", "COLUMNS": "250"}


def first_epoch_saved(folder: Path) -> Callable[[], bool]:
    """Whether any run below the folder has kept the checkpoint of its first epoch."""
    return lambda: any(folder.glob("outputs/**/last.ckpt"))


def client(folder: Path) -> MlflowClient:
    """The store that runs started in the folder make there by default."""
    return MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")


def runs(folder: Path) -> list[Run]:
    """All runs of the store, the oldest first."""
    store = client(folder)
    experiments = [each.experiment_id for each in store.search_experiments()]
    return list(store.search_runs(experiments, order_by=["attributes.start_time ASC"]))


def only_run(folder: Path) -> Run:
    """The store's run, of which there is no second."""
    (run,) = runs(folder)
    return run


def artifacts(run: Run) -> Path:
    """The folder of the run's artifacts."""
    return Path(str(run.info.artifact_uri).removeprefix("file://"))


def best_weights(run: Run) -> dict[str, Tensor]:
    """The weights that the run kept."""
    return torch.load(artifacts(run) / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]


def last_weights(run: Run) -> dict[str, Tensor]:
    """Everything at the end of the last epoch: weights, moments of the optimizer."""
    content = torch.load(next(Path(run.data.tags["output_dir"]).glob("checkpoints/*/last.ckpt")), weights_only=True)
    moments = content["optimizer_states"][0]["state"]
    return content["state_dict"] | {
        f"{i} {name}": value for i, state in moments.items() for name, value in state.items()
    }


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether both hold the same names and the same values, bit for bit."""
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def processes_in(folder: Path) -> list[str]:
    """Command lines of the processes that work in the folder or below it."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            where, command = (each / "cwd").readlink(), (each / "cmdline").read_bytes()
        except OSError:  # it has ended, or belongs to somebody else
            continue
        if where.is_relative_to(folder) and command:
            found.append(command.replace(b"\0", b" ").decode())
    return found


def run_folders(folder: Path) -> list[str]:
    """Names of the folders that runs and sweeps made there."""
    return [path.name for path in (folder / "outputs").iterdir() if path.is_dir() and path.name != "cache"]
