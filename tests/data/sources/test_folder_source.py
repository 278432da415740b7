import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from thawlab.data.images import SPLITS, ImageData
from thawlab.data.sources.folder import Settings, load

VALUES = {
    "name": "folder",
    "layout": "auto",
    "max_pixels": 1_000_000,
    "val_share": 0.2,
    "test_share": 0.2,
    "train_share": 1.0,
    "split_seed": 0,
    "on_bad_image": "error",
    "hflip": True,
    "draft": True,
}


def read(root: Path, **changes) -> ImageData:
    return load(Settings(root=str(root), **(VALUES | changes)))


def refused(root: Path, **changes) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the caller compares the message)
        read(root, **changes)
    return str(error.value).replace(f"dataset.root={root}", "dataset.root=R")


def ids(data: ImageData) -> dict[str, list[str]]:
    return {split: list(getattr(data, split).ids) for split in SPLITS}


def sizes(data: ImageData) -> list[int]:
    return [len(getattr(data, split)) for split in SPLITS]


def test_given_splits_are_taken_as_they_are(tmp_path, make_tree):
    make_tree(tmp_path, {"train/a": 2, "train/b": 1, "val/a": 1, "val/b": 1, "test/a": 1, "test/b": 2})
    data = read(tmp_path)
    assert data.classes == ("a", "b")
    assert data.name == tmp_path.name
    assert (data.hflip, data.image_size, data.notes) == (True, None, ())
    assert ids(data) == {
        "train": ["train/a/0.png", "train/a/1.png", "train/b/0.png"],
        "val": ["val/a/0.png", "val/b/0.png"],
        "test": ["test/a/0.png", "test/b/0.png", "test/b/1.png"],
    }
    assert data.test.labels.tolist() == [0, 1, 1]
    assert data.test.labels.dtype == np.int64
    assert data.test.paths == tuple(str(tmp_path / each) for each in data.test.ids)
    assert data.test.read(2).size == (10, 8)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], [12, 4, 4]),
        (["val"], [16, 4, 4]),
        (["test"], [16, 4, 4]),
    ],
)
def test_missing_splits_come_off_train(tmp_path, make_tree, given, expected):
    make_tree(tmp_path, {"train/a": 10, "train/b": 10, **{f"{split}/{name}": 2 for split in given for name in "ab"}})
    data = read(tmp_path)
    assert sizes(data) == expected
    for split in SPLITS:
        assert set(getattr(data, split).labels) == {0, 1}
        assert all(each.startswith(f"{split if split in given else 'train'}/") for each in getattr(data, split).ids)


@pytest.mark.parametrize("seed", range(5))
def test_splits_share_neither_an_id_nor_an_image(tmp_path, make_tree, seed):
    make_tree(tmp_path, {"a": 12, "b/inner": 9, "b": 5})
    for i in range(4):
        shutil.copy(tmp_path / "a" / f"{i}.png", tmp_path / "a" / f"copy{i}.png")
    data = read(tmp_path, split_seed=seed)
    held = [getattr(data, split) for split in SPLITS]
    assert sorted(each for split in held for each in split.ids) == sorted(
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")
    )
    content = [{Path(path).read_bytes() for path in split.paths} for split in held]
    assert content[0].isdisjoint(content[1] | content[2])
    assert content[1].isdisjoint(content[2])
    assert data.notes == ()


def test_another_split_seed_gives_another_split(tmp_path, make_tree):
    make_tree(tmp_path, {"a": 20, "b": 20})
    first, same, other = read(tmp_path), read(tmp_path), read(tmp_path, split_seed=1)
    assert ids(first) == ids(same) != ids(other)
    assert first.digest == same.digest != other.digest


def test_the_digest_is_that_of_the_content_wherever_it_lies(tmp_path, make_tree):
    make_tree(tmp_path / "one", {"train/a": 4, "train/b": 4, "val/a": 2, "val/b": 2})
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    first = read(tmp_path / "one")
    assert read(tmp_path / "two").digest == first.digest
    assert len(first.digest) == 32
    changed = {first.digest}
    os.rename(tmp_path / "two/val/a/0.png", tmp_path / "two/val/a/9.png")  # noqa: PTH104 (a name)
    changed.add(read(tmp_path / "two").digest)
    shutil.copy(tmp_path / "one/train/a/0.png", tmp_path / "two/val/a/9.png")  # the bytes
    changed.add(read(tmp_path / "two").digest)
    (tmp_path / "two/train/b").rename(tmp_path / "two/train/c")  # a class
    (tmp_path / "two/val/b").rename(tmp_path / "two/val/c")
    changed.add(read(tmp_path / "two").digest)
    assert len(changed) == 4


def test_duplicates_across_given_splits_are_reported_with_their_paths(tmp_path, make_tree):
    make_tree(tmp_path, {"train/a": 5, "train/b": 5, "val/a": 1, "val/b": 1})
    shutil.copy(tmp_path / "train/a/3.png", tmp_path / "val/a/again.png")
    for seed in range(5):
        data = read(tmp_path, split_seed=seed, test_share=0.45)
        assert data.notes == (
            "the same image in more than one split, so that scores flatter (1): train/a/3.png = val/a/again.png",
        )
        assert "train/a/3.png" in data.train.ids  # never in a split made here


def test_an_image_in_two_classes_is_reported(tmp_path, make_tree):
    make_tree(tmp_path, {"a": 6, "b": 6})
    shutil.copy(tmp_path / "a/0.png", tmp_path / "b/same.png")
    assert read(tmp_path).notes == ("the same image in more than one class (1): a/0.png = b/same.png",)


def test_bad_files_stop_with_their_list(tmp_path, make_tree):
    make_tree(tmp_path, {"a": 5, "b": 5})
    (tmp_path / "a/text.jpg").write_text("x")
    whole = (tmp_path / "b/0.png").read_bytes()
    (tmp_path / "b/cut.png").write_bytes(whole[: len(whole) // 2])
    message = refused(tmp_path)
    assert message.startswith(
        "dataset.root=R: 2 files are no sound image: a/text.jpg (not an image); b/cut.png (damaged: "
    )
    assert message.endswith("; repair or remove, or dataset.on_bad_image=skip")


def test_bad_files_can_be_left_out_and_are_counted(tmp_path, make_tree):
    make_tree(tmp_path, {"a": 5, "b": 5})
    clean = read(tmp_path)
    (tmp_path / "a/text.jpg").write_text("x")
    data = read(tmp_path, on_bad_image="skip")
    assert ids(data) == ids(clean)
    assert data.digest == clean.digest
    assert data.notes == ("left out: 1 file is no sound image: a/text.jpg (not an image)",)


def test_a_class_of_bad_files_alone_is_empty(tmp_path, make_tree):
    make_tree(tmp_path, {"a": 5, "b": 5, "c": 0})
    (tmp_path / "c/text.jpg").write_text("x")
    assert refused(tmp_path, on_bad_image="skip") == (
        "dataset.root=R, without its bad images: no images of 'c' in train; add some, or remove the folder"
    )


def test_files_passed_over_are_reported(tmp_path, make_tree):
    make_tree(tmp_path, {"train/a": 5, "train/b": 5, "drafts": 1})
    for name in ("1.cr2", "2.CR2", "note.txt", ".hidden"):
        (tmp_path / "train/a" / name).write_bytes(b"x")
    assert read(tmp_path).notes == (
        "passed over, since their names do not end as an image's: .cr2 (2), .txt (1); .cr2: raw data of a camera: "
        "develop them into TIFF or JPEG",
        "passed over, since they stand outside the class folders: 'drafts'",
    )


def test_a_root_without_images_is_refused(tmp_path):
    assert refused(tmp_path).startswith("dataset.root=R: no images in class folders (found nothing); use ")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/movie.mp4").write_bytes(b"x")
    (tmp_path / "loose.png").write_bytes(b"x")
    message = refused(tmp_path)
    assert message.startswith(
        "dataset.root=R: no images in class folders (found 1 .mp4, and outside any class folder 'loose.png'); "
        "use root/CLASS/* or root/train/CLASS/* with .apng, .avif, .bmp"
    )


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"a": 3, "b": 0, "c": 0}, "no images of 'b', 'c' in train; add some, or remove the folder"),
        ({"a": 3}, "only one class, 'a'; use one folder for each of at least two classes"),
        (
            {"train/a": 3, "train/b": 3, "val/a": 1},
            "val lacks 'b'; add images of it, or remove the class from train",
        ),
        (
            {"train/a": 3, "train/b": 3, "test/a": 1, "test/b": 1, "test/c": 1},
            "train lacks 'c', which test has; add images of it, or remove it there",
        ),
        (
            {"a": 3, "b": 2},
            "too few different images to split val and test off train: b (2); each class needs at least 3; add images, "
            "or make val and test yourself",
        ),
        (
            {"train/a": 3, "train/b": 1, "val/a": 1, "val/b": 1},
            "too few different images to split test off train: b (1); each class needs at least 2; add images, or make "
            "test yourself",
        ),
    ],
)
def test_folders_that_make_up_no_data_set_are_refused(tmp_path, make_tree, counts, message):
    make_tree(tmp_path, counts)
    assert refused(tmp_path) == f"dataset.root=R: {message}"


def test_a_missing_root_is_named_as_it_was_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"^dataset\.root=photos: there is no such folder; "):
        read(Path("photos"))


def test_the_root_may_be_relative_or_below_home(tmp_path, make_tree, monkeypatch):
    make_tree(tmp_path / "photos", {"a": 5, "b": 5})
    absolute = read(tmp_path / "photos")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read(Path("~/photos")).digest == absolute.digest
    monkeypatch.chdir(tmp_path / "photos")
    here = read(Path())
    assert (here.name, here.digest) == ("photos", absolute.digest)


def test_a_split_can_be_sent_to_another_process(tmp_path, make_tree):
    make_tree(tmp_path, {"a": 5, "b": 5})
    split = read(tmp_path).val
    sent = pickle.loads(pickle.dumps(split))
    assert sent.ids == split.ids
    assert sent.read(1).tobytes() == split.read(1).tobytes()


def test_the_shipped_values_fit_and_only_root_is_open():
    values = yaml.safe_load((Path(__file__).parents[3] / "conf/dataset/folder.yaml").read_text(encoding="utf-8"))
    assert set(values) == set(Settings.model_fields)
    assert [key for key, value in values.items() if value == "???"] == ["root"]
    Settings(**(values | {"root": "photos"}))


WRONG = [
    {"rot": "x"},
    {"root": ""},
    {"val_share": 0.0},
    {"test_share": 0.5},
    {"split_seed": -1},
    {"train_share": 0.0},
    {"train_share": 1.1},
    {"split_seed": 1.0},
]
WRONG += [{"on_bad_image": "ignore"}, {"hflip": "yes"}, {"name": "digits"}]


@pytest.mark.parametrize("wrong", WRONG)
def test_settings_refuse_unknown_keys_and_impossible_values(wrong):
    with pytest.raises(ValidationError):
        Settings(**(VALUES | {"root": "photos"} | wrong))


@pytest.mark.parametrize("source", ["folder", "digits"])
def test_importing_a_source_loads_nothing_heavy(source):
    code = f"import sys, json, thawlab.data.sources.{source}; print(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "timm", "sklearn", "numpy", "pandas", "PIL", "rich", "mlflow", "pytorch_lightning"}
    assert heavy.isdisjoint(json.loads(result.stdout))


@pytest.mark.skipif("THAWLAB_PHOTOS" not in os.environ, reason="THAWLAB_PHOTOS names no folder of photographs")
def test_a_folder_of_photographs_loads():
    data = read(Path(os.environ["THAWLAB_PHOTOS"]))
    assert all(set(getattr(data, split).labels) == set(range(len(data.classes))) for split in SPLITS)
    assert len(set(data.train.ids) | set(data.val.ids) | set(data.test.ids)) == sum(sizes(data))
    assert data.test.read(0).mode == "RGB"


def test_a_share_of_the_training_images_leaves_validation_and_test_as_they_are(tmp_path, make_tree):
    make_tree(tmp_path, {"a": 20, "b": 20})
    whole, part = read(tmp_path), read(tmp_path, train_share=0.5)
    assert ids(whole)["val"] == ids(part)["val"]
    assert ids(whole)["test"] == ids(part)["test"]
    assert len(part.train) == len(whole.train) / 2
    assert set(part.train.ids) < set(whole.train.ids)
    assert part.digest != whole.digest
