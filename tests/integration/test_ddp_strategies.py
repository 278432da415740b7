"""Every strategy in two processes (gloo): they end with the same network, in every phase."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tiny_runs import make_images, make_weights

from thawlab.strategies.contract import STRATEGIES

SETTINGS = {
    "surgical": ",strategy.stage=2",
    "transplant": ",transfer=2,strategy.source=target",
    "delta": ",strategy.attention_images=2",
}
SEVERAL_PHASES = {"delta", "freeze_unfreeze", "gradual", "lp_ft", "transplant"}


def test_two_processes_end_with_the_same_network_whatever_the_strategy(tmp_path):
    images = make_images(tmp_path / "images")
    make_weights(tmp_path / "test_resnet.safetensors", "test_resnet")
    make_weights(tmp_path / "test_vit.safetensors", "test_vit", img_size=32)
    strategies = STRATEGIES.names()
    arguments = [f"{name}{SETTINGS.get(name, '')},epochs=3" for name in strategies]
    program = str(Path(__file__).with_name("ddp_program.py"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", program]
    done = subprocess.run(
        [*command, str(images), str(tmp_path), str(tmp_path), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert list(first) == strategies
    assert {name for name, found in first.items() if found["phases"] > 1} == SEVERAL_PHASES
    assert len({found["digest"] for found in first.values()}) == len(first)
