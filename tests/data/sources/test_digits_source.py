import pickle
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ValidationError
from sklearn.datasets import load_digits

from thawlab.data.images import SPLITS
from thawlab.data.sources.digits import Settings, load

VALUES = yaml.safe_load((Path(__file__).parents[3] / "conf/dataset/digits.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def data():
    return load(Settings(**VALUES))


def test_all_digits_are_dealt_out_once(data):
    assert data.classes == tuple("0123456789")
    assert [len(getattr(data, split)) for split in SPLITS] == [1259, 269, 269]
    held = [each for split in SPLITS for each in getattr(data, split).ids]
    assert sorted(held) == [f"digits/{i:04d}" for i in range(1797)]
    assert data.test.paths == ("",) * 269
    assert (data.name, data.hflip, data.image_size, data.notes) == ("digits", False, 64, ())


def test_every_split_has_its_share_of_every_digit(data):
    total = np.bincount(load_digits().target)
    for split in ("val", "test"):
        assert np.abs(np.bincount(getattr(data, split).labels) - 0.15 * total).max() <= 0.5


def test_an_image_is_the_digit_of_its_id(data):
    source = load_digits()
    for position in (0, 100):
        number = int(data.test.ids[position].removeprefix("digits/"))
        image = data.test.read(position)
        assert (image.mode, image.size) == ("RGB", (8, 8))
        assert np.array_equal(np.asarray(image)[..., 1], np.round(source.images[number] / 16 * 255))
        assert data.test.labels[position] == source.target[number]


def test_the_split_is_fixed_by_its_seed(data):
    again = load(Settings(**VALUES))
    other = load(Settings(**(VALUES | {"split_seed": 1})))
    assert again.digest == data.digest == "3b372f8fa2bd40b4ef7d8fb9f1f7c29c"
    assert again.test.ids == data.test.ids != other.test.ids
    assert other.digest != data.digest


def test_a_split_can_be_sent_to_another_process(data):
    sent = pickle.loads(pickle.dumps(data.val))
    assert sent.read(5).tobytes() == data.val.read(5).tobytes()


@pytest.mark.parametrize("wrong", [{"root": "x"}, {"val_share": 0}, {"test_share": "0.1"}, {"name": "folder"}])
def test_settings_refuse_unknown_keys_and_impossible_values(wrong):
    with pytest.raises(ValidationError):
        Settings(**(VALUES | wrong))
