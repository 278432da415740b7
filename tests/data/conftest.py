import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from noise_images import NoiseReader, noise
from PIL import Image

from thawlab.data.images import Split

LIMITS = {"val_share": 0.2, "test_share": 0.2, "train_share": 1.0, "split_seed": 0}


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


class MakeTree:
    """Writes different small images: `{"train/cat": 3}` makes train/cat/0.png to 2.png."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, root: Path, counts: Mapping[str, int], suffix: str = ".png") -> Path:
        for folder, count in counts.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                self.made += 1
                (root / folder / f"{i}{suffix}").write_bytes(png(noise(self.made)))
        return root


@pytest.fixture
def make_tree() -> MakeTree:
    return MakeTree()


@pytest.fixture
def make_split():
    def make(size: int) -> Split:
        labels = np.arange(size, dtype=np.int64) % 3
        return Split(tuple(f"noise/{i}" for i in range(size)), ("",) * size, labels, NoiseReader())

    return make


@pytest.fixture
def preprocessing() -> dict:
    """As `timm.data.resolve_data_config` returns it for tf_efficientnet_lite0."""
    return {
        "input_size": (3, 224, 224),
        "interpolation": "bicubic",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "crop_pct": 0.875,
        "crop_mode": "center",
    }
