"""What a transform asks of an image's size, and what of it is the same in every epoch."""

import io
import math
import random

import numpy as np
import pytest
from noise_images import noise
from PIL import Image

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import torch
from timm.data.transforms import RandomResizedCropAndInterpolation

from thawlab.data.dataset import ImageDataset
from thawlab.data.decoding import DRAFT_MARGIN, FileReader, decode, read_for
from thawlab.data.images import Split
from thawlab.data.transform_geometry import Shrink, least_side, split_transform
from thawlab.data.transforms import eval_transform, train_transform

OFF = {"crop_scale": 1.0, "hflip": 0.0, "vflip": 0.0, "color_jitter": 0.0, "auto_augment": None, "random_erasing": 0.0}


def smooth(height: int, width: int) -> Image.Image:
    small = Image.fromarray(noise(0, max(height // 40, 2), max(width // 40, 2)))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, **options) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90, **options)
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize(
    ("mode", "share", "side"),
    [("center", 0.875, 146), ("center", 1.0, 128), ("squash", 0.9, 142), ("border", 0.95, 134)],
)
def test_evaluation_needs_the_side_that_it_resizes_to(preprocessing, mode, share, side):
    preprocessing |= {"crop_mode": mode, "crop_pct": share}
    assert least_side(eval_transform(preprocessing, 128)) == side
    assert least_side(train_transform(preprocessing, 128, **OFF)) == side


@pytest.mark.parametrize("scale", [0.08, 0.35, 0.5, 0.99])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 4), (4, 3), (1, 3)])
def test_the_smallest_random_crop_of_an_image_of_the_least_side_has_the_pixels_of_the_output(
    preprocessing, scale, height, width
):
    transform = train_transform(preprocessing, 64, **(OFF | {"crop_scale": scale}))
    side = least_side(transform)
    assert side == math.ceil(64 / math.sqrt(0.75 * scale))
    image = Image.new("RGB", (side * width // min(height, width), side * height // min(height, width)))
    crop = transform.transforms[0]
    assert isinstance(crop, RandomResizedCropAndInterpolation)
    random.seed(0)
    sides = [min(crop.get_params(image, crop.scale, crop.ratio)[2:]) for _ in range(500)]
    assert min(sides) >= 64 - 1  # rounded


def test_a_transform_of_unknown_kind_needs_the_whole_image():
    assert least_side(lambda image: torch.zeros(1)) is None
    assert split_transform(transform := (lambda image: torch.zeros(1))) == ((), transform)


@pytest.mark.parametrize("crop", [("center", 0.875), ("squash", 0.9), ("border", 0.95), ("center", 1.15)])
def test_the_fixed_steps_and_the_rest_make_up_the_transform(preprocessing, crop):
    preprocessing |= {"crop_mode": crop[0], "crop_pct": crop[1]}
    transform = eval_transform(preprocessing, 32)
    steps, rest = split_transform(transform)
    image = made = Image.fromarray(noise(0, 90, 70))
    for step in steps:
        made = step(made)
    assert made.size == (32, 32)
    assert torch.equal(rest(made), transform(image))


def test_nothing_of_a_random_crop_is_fixed(preprocessing):
    transform = train_transform(preprocessing, 32, **(OFF | {"crop_scale": 0.5, "hflip": 0.5}))
    assert split_transform(transform)[0] == ()


@pytest.mark.parametrize(("height", "width"), [(100, 60), (60, 100), (41, 40), (40, 40), (30, 90)])
def test_shrinking_keeps_the_shape_and_never_enlarges(height, width):
    image = Image.fromarray(noise(0, height, width))
    made = Shrink(40)(image)
    assert min(made.size) == min(40, height, width)
    assert made.width / made.height == pytest.approx(width / height, rel=0.02)
    if min(height, width) <= 40:
        assert made is image


@pytest.mark.parametrize(
    ("least", "expected"), [(None, (640, 480)), (480, (640, 480)), (241, (640, 480)), (240, (320, 240)), (1, (80, 60))]
)
def test_a_jpeg_is_reduced_as_long_as_its_short_side_is_large_enough(least, expected):
    assert decode(jpeg(smooth(480, 640)), least=least).size == expected
    assert decode(jpeg(smooth(640, 480)), least=least).size == expected[::-1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_reduced_jpeg_is_turned_upright_like_the_whole_one(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    whole = decode(jpeg(smooth(320, 480), exif=exif))
    reduced = decode(jpeg(smooth(320, 480), exif=exif), least=160)
    assert reduced.size == (whole.width // 2, whole.height // 2)
    expected = np.asarray(whole.resize(reduced.size, Image.Resampling.BOX)).astype(int)
    assert np.abs(np.asarray(reduced).astype(int) - expected).mean() < 2


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_a_reduced_jpeg_of_any_mode_looks_like_the_whole_one(mode):
    whole = decode(jpeg(smooth(320, 480).convert(mode)))
    reduced = decode(jpeg(smooth(320, 480).convert(mode)), least=80)
    assert reduced.mode == "RGB"
    assert reduced.size == (120, 80)
    expected = np.asarray(whole.resize(reduced.size, Image.Resampling.BOX)).astype(int)
    assert np.abs(np.asarray(reduced).astype(int) - expected).mean() < 3


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("BMP", {})])
def test_other_formats_come_out_whole_and_unchanged(kind, options):
    image = Image.fromarray(noise(0, 320, 480))
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    buffer.seek(0)
    assert np.array_equal(np.asarray(decode(buffer, least=10)), np.asarray(image))


def test_transparency_is_laid_on_white_with_a_least_side_as_without():
    image = Image.fromarray(np.dstack([noise(0, 64, 64), noise(1, 64, 64)[..., 0]]))
    found = []
    for least in (None, 8):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        buffer.seek(0)
        found.append(np.asarray(decode(buffer, least=least)))
    assert np.array_equal(*found)


def test_only_a_reader_that_may_and_a_transform_that_is_known_reduce_anything(tmp_path, preprocessing):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(smooth(480, 640)).getvalue())
    transform = eval_transform(preprocessing, 32)  # resizes to 36
    for draft, side, size in [(False, 36, (640, 480)), (True, None, (640, 480)), (True, 36, (160, 120))]:
        assert read_for(FileReader((str(path),), draft=draft), side)(0).size == size
    assert 480 / 4 >= DRAFT_MARGIN * 36 > 480 / 8
    split = Split(("a",), (str(path),), np.zeros(1, dtype=np.int64), FileReader((str(path),), draft=True))
    expected = transform(read_for(split.read, 36)(0))
    assert torch.equal(ImageDataset(split, transform)[0][0], expected)
    whole = transform(FileReader((str(path),))(0))
    assert not torch.equal(expected, whole)
    assert (expected - whole).abs().mean() < 0.02
