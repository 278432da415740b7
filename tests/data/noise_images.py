"""Images of noise; a module of its own, so that spawned workers can import what they are sent."""

import numpy as np
from PIL import Image


def noise(seed: int, height: int = 8, width: int = 10) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


class NoiseReader:
    """Reads the i-th of a row of noise images; picklable."""

    def __call__(self, position: int) -> Image.Image:
        return Image.fromarray(noise(position, 40, 50))
