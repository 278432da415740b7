"""Fits strategies one after the other in each process of a distributed run, and writes down what it ends with."""

import json
import os
import sys
from pathlib import Path

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
from tiny_runs import configured, fitted

from thawlab.backbones.freezing import digest_of


def main(images: str, weights: str, out: str, *strategies: str) -> None:
    rank, results = os.environ["RANK"], {}
    for strategy in strategies:
        name, *settings = strategy.split(",")
        backbone = "test_vit" if name == "adapter" else "test_resnet"
        config = configured(
            Path(images),
            f"backbone={backbone}",
            f"backbone.checkpoint_path={Path(weights) / backbone}.safetensors",
            f"strategy={name}",
            *settings,
            "trainer=ddp",
            "trainer.devices=2",
            "trainer.accelerator=cpu",
        )
        prepared, done = fitted(config, Path(out) / name)
        state = prepared.network.model.state_dict()
        results[name] = {"phases": len(prepared.phases), "digest": digest_of(state), "audited": done.audited}
    (Path(out) / f"rank{rank}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
