import re

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import Compose, Normalize

from thawlab.data import transforms
from thawlab.data.dataset import randomness
from thawlab.data.transforms import eval_transform, train_transform

OFF = {"crop_scale": 1.0, "hflip": 0.0, "vflip": 0.0, "color_jitter": 0.0, "auto_augment": None, "random_erasing": 0.0}


def photo(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(("width", "height"), [(400, 533), (533, 400), (8, 8), (10, 300), (64, 64), (37, 5)])
@pytest.mark.parametrize("size", [32, 63])
@pytest.mark.parametrize(
    "crop", [("center", 0.875), ("center", 1.0), ("squash", 0.9), ("border", 0.95), ("center", 1.15)]
)
def test_every_photo_comes_out_square(preprocessing, width, height, size, crop):
    preprocessing |= {"crop_mode": crop[0], "crop_pct": crop[1]}
    for transform in (
        eval_transform(preprocessing, size),
        train_transform(preprocessing, size, **OFF),
        train_transform(preprocessing, size, **(OFF | {"crop_scale": 0.3, "hflip": 0.5, "random_erasing": 1.0})),
        train_transform(preprocessing, size, **(OFF | {"auto_augment": "rand-m7-mstd0.5-inc1"})),
    ):
        image = transform(photo(width, height))
        assert image.shape == (3, size, size)
        assert image.dtype == torch.float32
        assert image.isfinite().all()


def test_evaluation_resizes_crops_the_middle_and_normalises(preprocessing):
    preprocessing |= {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    image = photo(100, 60)
    resized = image.resize((int(36 * 100 / 60), 36), Image.Resampling.BICUBIC)  # floor(32 / 0.875) = 36
    left, top = (resized.width - 32) / 2, (resized.height - 32) / 2
    cropped = np.asarray(resized.crop((int(left), int(top), int(left) + 32, int(top) + 32))) / 255
    expected = (cropped - [0.1, 0.2, 0.3]) / [0.4, 0.5, 0.6]
    found = eval_transform(preprocessing, 32)(image).permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() < 1e-5


def test_no_augmentation_is_the_evaluation_transform(preprocessing):
    image = photo(90, 60)
    assert torch.equal(train_transform(preprocessing, 32, **OFF)(image), eval_transform(preprocessing, 32)(image))
    assert repr(train_transform(preprocessing, 32, **OFF)) == repr(eval_transform(preprocessing, 32))


def test_without_a_random_crop_a_flip_is_the_only_change(preprocessing):
    image = photo(90, 60)
    plain = eval_transform(preprocessing, 32)(image)
    assert torch.equal(train_transform(preprocessing, 32, **(OFF | {"hflip": 1.0}))(image), plain.flip(2))
    assert torch.equal(train_transform(preprocessing, 32, **(OFF | {"vflip": 1.0}))(image), plain.flip(1))


@pytest.mark.parametrize(
    "change",
    [
        {"crop_scale": 0.5},
        {"hflip": 0.5},
        {"vflip": 0.5},
        {"color_jitter": 0.4},
        {"auto_augment": "rand-m9-mstd0.5-inc1"},
        {"auto_augment": "augmix-m3-w3"},
        {"auto_augment": "original"},
        {"random_erasing": 0.8},
    ],
)
def test_each_augmentation_varies_with_the_seed_and_with_nothing_else(preprocessing, change):
    transform = train_transform(preprocessing, 32, **(OFF | change))

    def seeded(seed: int) -> torch.Tensor:
        with randomness(seed):
            return transform(photo(90, 60))

    images = [seeded(seed) for seed in range(12)]
    assert all(torch.equal(image, seeded(seed)) for seed, image in enumerate(images))
    assert any(not torch.equal(images[0], image) for image in images)


def test_a_random_crop_keeps_at_least_its_share(preprocessing):
    preprocessing |= {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    rows = np.linspace(0, 255, 100).astype(np.uint8)
    image = Image.fromarray(np.repeat(np.repeat(rows[:, None], 100, 1)[..., None], 3, 2))
    transform = train_transform(preprocessing, 32, **(OFF | {"crop_scale": 0.5}))
    heights = []
    for seed in range(50):
        with randomness(seed):
            crop = transform(image)
        heights.append(float(crop.max() - crop.min()))
    assert 0.5 < min(heights) < 0.8  # sides of sqrt(0.5 * 3 / 4) = 0.61 at least
    assert max(heights) > 0.9


def test_training_normalises_as_evaluation_does(preprocessing):
    preprocessing |= {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    train = train_transform(preprocessing, 32, **(OFF | {"crop_scale": 0.5}))
    normalise = [each for each in train.transforms if isinstance(each, Normalize)]
    assert [(each.mean.tolist(), each.std.tolist()) for each in normalise] == [
        (pytest.approx([0.1, 0.2, 0.3]), pytest.approx([0.4, 0.5, 0.6]))
    ]


@pytest.mark.parametrize("policy", ["banana", "randm7", "rand-x7", "rand-m7-q3", "augmix-z1", "v0-m3", "rand-m7.5"])
def test_an_unknown_policy_is_refused(preprocessing, policy, monkeypatch):
    if policy != "rand-m7.5":  # timm's asserts are not there under `python -O`
        monkeypatch.setattr(transforms, "create_transform", lambda *_, **__: Compose([]))
    with pytest.raises(
        ValueError, match=rf"^augment\.auto_augment={re.escape(policy)}: timm has no such policy; use one such as "
    ):
        train_transform(preprocessing, 32, **(OFF | {"auto_augment": policy}))


def test_the_middle_of_a_strip_is_all_that_is_resized_and_all_that_counts(preprocessing):
    strip = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 4 * 200, 3), dtype=np.uint8))
    transform = eval_transform(preprocessing, 32)
    assert transform.transforms[0](strip).size == (4 * 64, 4)
    whole = Compose(transform.transforms[1:])
    assert (transform(strip) - whole(strip)).abs().mean() < 0.02
    turned = strip.transpose(Image.Transpose.ROTATE_90)
    assert (transform(turned) - whole(turned)).abs().mean() < 0.02


def test_an_image_that_is_no_strip_is_resized_as_it_is(preprocessing):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 4 * 64, 3), dtype=np.uint8))
    assert eval_transform(preprocessing, 32).transforms[0](image) is image
