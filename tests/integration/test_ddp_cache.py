"""Two processes (gloo) of one run share the stored activations, and end as two that compute them anew."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import torch
from tiny_runs import make_images, make_weights


def in_two_processes(folder: Path, images: Path, *settings: str) -> list[dict[str, Any]]:
    program = str(Path(__file__).with_name("ddp_program.py"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", program]
    (folder / "run").mkdir(exist_ok=True)
    done = subprocess.run(
        [*command, str(images), str(folder), str(folder / "run"), ",".join(["finetune", "epochs=2", *settings])],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads((folder / "run" / f"rank{rank}.json").read_text())["finetune"] for rank in (0, 1)]


def test_two_processes_share_what_is_stored(tmp_path):
    images = make_images(tmp_path / "images")
    ends = {}
    for name in ("off", "require"):
        folder = tmp_path / name
        folder.mkdir()
        make_weights(folder / "test_resnet.safetensors", "test_resnet")
        more = ("freeze=1", "augment=none", "optimizer=sgd", "optimizer.lr=0.01", f"cache.name={name}")
        first, second = in_two_processes(folder, images, *more, f"cache.dir={folder / 'cache'}")
        assert first == second
        ends[name] = torch.load(folder / "run" / "finetune" / "checkpoints" / "0_finetune" / "last.ckpt")["state_dict"]
    entries = [each for each in (tmp_path / "require" / "cache").iterdir() if each.is_dir()]
    assert len(entries) == 2  # train and val, each once
    for key, value in ends["off"].items():
        torch.testing.assert_close(value, ends["require"][key], rtol=1e-4, atol=1e-5, msg=key)
