"""What workers are sent by tests: a module that loads little, since each worker imports it."""

import os
import threading
from pathlib import Path

import numpy as np
import torch
from noise_images import noise
from PIL import Image

from thawlab.data.decoded_image_cache import KeptImages

LOCK = threading.Lock()


class TakesLock:
    """A transform that needs a lock of its module, as a first import or a message to a log does."""

    def __call__(self, image: Image.Image) -> torch.Tensor:
        took = LOCK.acquire(timeout=5)
        return torch.tensor([float(took), float(os.getppid())])


class Counting:
    """Makes an image of a position, and leaves a file that says so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, position: int) -> Image.Image:
        (self.folder / f"{position}-{os.getpid()}").touch()
        return Image.fromarray(noise(position, 9, 7))


def read_all(kept: KeptImages, count: int) -> None:
    for position in range(count):
        assert np.array_equal(np.asarray(kept(position)), noise(position, 9, 7))
