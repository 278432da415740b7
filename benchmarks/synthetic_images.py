"""Images that look like nothing, to measure on where there are none: `synthetic_images.py FOLDER [--count N]`.

Eight classes, a folder each, of smooth noise around a colour of the class, as JPEG files of a photograph's proportions.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 8
_WIDTH, _HEIGHT = 400, 300


def main(arguments: list[str]) -> int:
    """Make the folder; what is there already stays."""
    parser = argparse.ArgumentParser(prog="synthetic_images.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=1024, help="images in all (1024)")
    given = parser.parse_args(arguments)
    rng = np.random.default_rng(0)
    colours = rng.integers(60, 196, (CLASSES, 3))
    for number in range(given.count):
        name = number % CLASSES
        path = given.folder / f"class_{name}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = (rng.integers(-60, 60, (9, 12, 3)) + colours[name]).clip(0, 255).astype(np.uint8)
        Image.fromarray(noise).resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC).save(path, quality=90)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
