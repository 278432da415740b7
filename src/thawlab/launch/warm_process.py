"""The process that jobs of a sweep are forked from: `python -m thawlab.launch.warm_process LINE`.

It imports what a run needs, once, and does nothing else: what is no mere import, such as a GPU that was looked at or a
thread that was started, does not survive a fork. `warm.py` is at the other end of the line.
"""

import gc
import json
import os
import random
import socket
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from thawlab.launch import process
from thawlab.system import surroundings

# What a run imports only once it needs it.
_LATE = (
    "matplotlib.backends.backend_agg",
    "mlflow.store.tracking.sqlalchemy_store",
    "pyarrow.pandas_compat",
    "rich.status",
    "sklearn.datasets",
    "sklearn.linear_model",
    "sqlalchemy.dialects.sqlite",
    "thawlab.data.sources.digits",
    "torch.profiler",
)


def preload() -> None:
    """Import what a run needs from its start to its end."""
    for name in ("thawlab.runs.run", *_LATE):
        import_module(name)
    _do_once()


def _do_once() -> None:
    """What is the same for all runs of this process, and is kept by what computes it."""
    from thawlab.tracking import artifacts, plots

    artifacts.packages()
    with tempfile.TemporaryDirectory() as folder:
        rows = [{"epoch": 1.0, "train/loss": 1.0, "val/loss": 1.0, "train/acc": 1.0, "val/acc": 1.0}]
        plots.learning_curves(rows, Path(folder, "curves.png"))
        plots.confusion_matrix([0, 1], [0, 1], ["a", "b"], Path(folder, "confusions.png"))


def serve(line: socket.socket) -> str | None:
    """Fork a process for each folder that is asked for and answer with its id, then with the code that it ends with.

    Returns:
        In each of these processes the folder; None in this one, once nobody asks any more.
    """
    while True:
        asked, files, *_ = socket.recv_fds(line, 1, 1)
        while asked and not asked.endswith(b"\n"):
            asked += line.recv(65536)
        if not asked:
            return None
        job = os.fork()
        if job == 0:
            line.close()
            _be_alone(files)
            return json.loads(asked)
        for file in files:
            os.close(file)
        try:
            line.sendall(f"{job}\n".encode())
            line.sendall(f"{os.waitstatus_to_exitcode(os.waitpid(job, 0)[1])}\n".encode())
        except BrokenPipeError:  # the sweep was killed; the job ends by itself
            return None


def _be_alone(files: list[int]) -> None:
    """Take nothing from the process that forked this one but what it has imported."""
    os.setpgid(0, 0)
    for file in files:
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.close(file)
    random.seed()
    np = sys.modules.get("numpy")
    if np is not None:
        np.random.seed()


def main() -> None:
    """Serve the line whose file number is the only argument; in a forked process, run the job."""
    surroundings.prepare()
    line = socket.socket(fileno=int(sys.argv[1]))
    preload()
    gc.collect()
    gc.freeze()  # collecting what is shared would copy it
    folder = serve(line)
    if folder is not None:
        sys.argv = [process.__file__, folder]
        process.main()


if __name__ == "__main__":
    main()
