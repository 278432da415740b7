"""The 1,797 scanned digits that scikit-learn ships: 8 × 8 pixels, ten classes, no download."""

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from thawlab.config.kinds import Mark
from thawlab.config.schema import Section

if TYPE_CHECKING:
    import numpy as np

    from thawlab.data.images import ImageData

IMAGE_SIZE = 64  # pixels; enlarging 8 × 8 further only costs time


class Settings(Section):
    """Keys of `dataset` for this source; the values are in conf/dataset/digits.yaml."""

    name: Literal["digits"]
    val_share: float = Field(description="share of each class for validation", gt=0, lt=0.5)
    test_share: float = Field(description="share of each class for testing", gt=0, lt=0.5)
    train_share: Annotated[float, Mark.SAME_TEST_IMAGES] = Field(
        description="share of each class's training images that is used", gt=0, le=1
    )
    split_seed: int = Field(description="seed of the split; not the seed of training", ge=0)
    hflip: Annotated[bool, Mark.SAME_TEST_IMAGES] = Field(description="whether a mirror image keeps its label")


def load(settings: Settings) -> "ImageData":
    """Load the digits and split them."""
    import numpy as np

    from thawlab.data.build import assemble
    from thawlab.data.decoding import ArrayReader
    from thawlab.data.images import Samples, bytes_hash

    images, labels = _digits()
    samples = Samples(
        ids=[f"digits/{i:04d}" for i in range(len(images))],
        paths=[""] * len(images),
        labels=labels,
        hashes=[bytes_hash(image.tobytes()) for image in images],
        reader=lambda positions: ArrayReader(images[positions]),
    )
    return assemble(
        "digits",
        [str(digit) for digit in range(10)],
        samples,
        {"train": np.arange(len(images))},
        shares={"val": settings.val_share, "test": settings.test_share},
        train_share=settings.train_share,
        seed=settings.split_seed,
        key="dataset=digits",
        hflip=settings.hflip,
        image_size=IMAGE_SIZE,
    )


def picture(sample: str) -> "np.ndarray | None":
    """The digit (8, 8) uint8 with this id, for a report: it is no file that could be opened. None without one."""
    images, _ = _digits()
    place = sample.removeprefix("digits/")
    return images[int(place)] if place.isdecimal() and int(place) < len(images) else None


@cache
def _digits() -> "tuple[np.ndarray, np.ndarray]":
    """Images (1797, 8, 8) uint8 and labels (1797,) int64."""
    import numpy as np
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)  # from 16 levels: ink is bright
    return images, digits.target.astype(np.int64)
