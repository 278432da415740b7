"""Runs of two processes with loader workers, forked from this one, which has everything loaded: a second a run.

The server that starts workers is this process's own, since one for each process of each run takes 3 seconds to load.
"""

import json
import os
import signal
import sys
import time
import traceback
from multiprocessing import forkserver
from pathlib import Path

from processes import free_port
from tiny_runs import configured, fitted, make_images, make_weights

from thawlab.backbones.freezing import digest_of
from thawlab.config.schema import Config
from thawlab.data.loader_workers import start_server

_DISTRIBUTED = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")


def prepare(folder: Path) -> Config:
    """Images, weights and a server for all runs, and what is to be run."""
    os.environ["RANK"] = "0"
    start_server()
    del os.environ["RANK"]
    images = make_images(folder / "images")
    weights = make_weights(folder / "weights.safetensors", "test_resnet")
    network = ("backbone=test_resnet", f"backbone.checkpoint_path={weights}")
    return configured(images, *network, "epochs=1", "freeze=1", *_DISTRIBUTED, "trainer.workers=2")


def run(config: Config, folder: Path, seconds: float) -> list[str] | None:
    """What each process of a run ended with, or what it failed with; None if they did not end in that time."""
    folder.mkdir()
    port = free_port()
    ranks = [_started(rank, port, config, folder) for rank in (0, 1)]
    waited, deadline = set(ranks), time.monotonic() + seconds
    while waited and time.monotonic() < deadline:
        waited -= {rank for rank in waited if os.waitpid(rank, os.WNOHANG)[0]}
        time.sleep(0.02)
    for rank in waited:
        os.killpg(rank, signal.SIGKILL)
        os.waitpid(rank, 0)
    return None if waited else [(folder / f"rank{rank}").read_text() for rank in (0, 1)]


def _started(rank: int, port: int, config: Config, folder: Path) -> int:
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        forkserver._forkserver.ensure_running = lambda: None  # it runs, and is no child of this process
        forkserver.ensure_running = lambda: None
        log = os.open(folder / f"log{rank}", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "none"}
        prepared, done = fitted(config, folder)
        logits = done.test().logits
        end = [digest_of(prepared.network.model.state_dict()), logits.tobytes().hex()]
        (folder / f"rank{rank}").write_text(json.dumps(end))
    except BaseException:
        traceback.print_exc()
        (folder / f"rank{rank}").write_text(traceback.format_exc())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
