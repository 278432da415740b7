"""Whole trainings in this process, without MLflow: a real configuration, prepared and fitted on 30 small images."""

from collections.abc import Mapping
from pathlib import Path

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from thawlab.config.schema import Config
from thawlab.launch.compose import compose
from thawlab.training.fit import Fitted, fit
from thawlab.training.preparation import Prepared, prepare

CLASSES = ("dark", "grey", "bright")
SIZE = 32  # pixels
SETTINGS = (
    f"image_size={SIZE}",
    "batch_size=8",
    "trainer=cpu",
    "trainer.workers=0",
    "trainer.min_steps=0",
    "trainer.channels_last=false",
    "cache=off",
)


def make_images(root: Path) -> Path:
    """A folder of images, brighter from class to class: a class has 6 to train, 2 to validate and 2 to test."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 2), ("test", 2)):
        for level, name in enumerate(CLASSES):
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 120, (SIZE, SIZE, 3)) + 60 * level
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    return root


def make_weights(path: Path, name: str, **options: object) -> Path:
    """Weights of an architecture with a classifier for 5 source classes, as a file: random, but none exactly zero.

    Before training, residual branches often end in a scale of zero, and nothing in them has a gradient.
    """
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    save_file(model.state_dict(), path)
    return path


def configured(images: Path, *arguments: str) -> Config:
    job = compose(["dataset=folder", f"dataset.root={images}", *SETTINGS, *arguments], "train.py")
    assert job is not None
    return job.config


def fitted(config: Config, folder: Path, resume: bool = False) -> tuple[Prepared, Fitted]:
    """Prepare and fit; with `resume` go on with what the folder holds."""
    prepared = prepare(config)
    return prepared, fit(config, prepared, folder, resume=resume)


def state_of(prepared: Prepared) -> dict[str, Tensor]:
    """A copy of the network's state_dict."""
    return {name: value.clone() for name, value in prepared.network.model.state_dict().items()}


def moved(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> set[str]:
    """Names of what differs in any bit; both must hold the same names."""
    assert list(before) == list(after)
    return {name for name in before if not torch.equal(before[name], after[name])}
