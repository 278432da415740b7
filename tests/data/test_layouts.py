from pathlib import Path

import pytest

from thawlab.data.folders import is_clutter
from thawlab.data.image_folder import Listing, list_images
from thawlab.data.split_names import split_of

KEY = "dataset.root=photos"


def counts(listing: Listing) -> dict:
    return {split: {name: len(images) for name, images in each.items()} for split, each in listing.splits.items()}


def refused(root: Path) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the caller compares the message)
        list_images(root, KEY)
    message = str(error.value)
    assert message.startswith(f"{KEY}: ")
    return message.removeprefix(f"{KEY}: ").replace(str(root), "R")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *[(name, "train") for name in ("train", "Training", "TRAINING_SET", "seg_train", "train-images", "trainset")],
        *[(name, "val") for name in ("Val", "valid", "validate", "val2017", "Validation Set", "eval", "dev_set")],
        *[(name, "test") for name in ("Testing", "test_set", "testImages", "TestData", "holdout", "imgs_test")],
        *[
            (name, None)
            for name in ("cat", "trainer", "protest", "contest", "valley", "evaluator", "pretest", "tests2x")
        ],
    ],
)
def test_names_of_splits(name, split):
    assert split_of(name) == split


@pytest.mark.parametrize("names", [("Training", "Testing"), ("training_set", "test_set"), ("seg_train", "seg_test")])
def test_splits_under_other_names_are_understood_and_said(tmp_path, make_tree, names):
    train, test = names
    make_tree(tmp_path, {f"{train}/a": 2, f"{train}/b": 1, f"{test}/a": 1, f"{test}/b": 1})
    listing = list_images(tmp_path, KEY)
    assert counts(listing) == {"train": {"a": 2, "b": 1}, "test": {"a": 1, "b": 1}}
    assert listing.notes == [f"folders taken for splits by their names: {train} as train, {test} as test"]


def test_a_folder_in_each_split_that_holds_the_classes_is_gone_through(tmp_path, make_tree):
    make_tree(tmp_path, {f"seg_{split}/seg_{split}/{name}": 1 for split in ("train", "test") for name in "ab"})
    assert counts(list_images(tmp_path, KEY)) == {"train": {"a": 1, "b": 1}, "test": {"a": 1, "b": 1}}


def test_classes_that_hold_their_own_splits_are_understood_and_said(tmp_path, make_tree):
    make_tree(tmp_path, {"cat/train": 3, "cat/test": 1, "dog/train/more": 2, "dog/test": 2})
    listing = list_images(tmp_path, KEY)
    assert counts(listing) == {"train": {"cat": 3, "dog": 2}, "test": {"cat": 1, "dog": 2}}
    assert listing.notes == ["each class folder holds its own splits: train, test"]


def test_a_class_with_images_outside_its_splits_is_refused(tmp_path, make_tree):
    make_tree(tmp_path, {"cat/train": 3, "cat/test": 1, "dog": 2})
    assert refused(tmp_path) == (
        "cat holds test, as if each class had its own splits, but dog holds '0.png' outside any; use CLASS/train/* and "
        "CLASS/test/* in every class, or dataset.layout=classes to take all below a folder as one class"
    )
    assert counts(list_images(tmp_path, KEY, "classes")) == {"train": {"cat": 4, "dog": 2}}


def test_data_sets_beside_one_another_are_named(tmp_path, make_tree):
    make_tree(
        tmp_path, {f"{data}/{split}/{name}": 1 for data in ("x", "y") for split in ("train", "val") for name in "ab"}
    )
    assert refused(tmp_path) == "the splits stand further down; use dataset.root=R/x or dataset.root=R/y"


@pytest.mark.parametrize("inner", ["photos", "photos/images"])
def test_a_root_that_is_too_high_names_the_folder_further_down(tmp_path, make_tree, inner):
    make_tree(tmp_path, {f"{inner}/cat": 1, f"{inner}/dog": 1, "annotations": 0})
    assert refused(tmp_path) == f"all images lie further down, in cat and dog of one folder; use dataset.root=R/{inner}"


def test_a_root_that_is_one_class_says_so_first_and_names_the_folder_above(tmp_path, make_tree):
    make_tree(tmp_path, {"cat": 3, "dog": 1, "sets/train/cat": 2})
    expected = (
        "this is one class: {} images, and no folders of them; give the folder that holds a folder for each class: "
    )
    assert refused(tmp_path / "cat") == expected.format(3) + f"dataset.root={tmp_path}"
    assert refused(tmp_path / "sets/train/cat") == expected.format(2) + f"dataset.root={tmp_path / 'sets'}"


def test_classes_called_as_splits_are_asked_about_and_have_a_way_out(tmp_path, make_tree):
    make_tree(tmp_path, {"train": 2, "test": 1})
    assert refused(tmp_path) == (
        "test and train hold images, but no class folders; use test/CLASS/*, or dataset.layout=classes if test and "
        "train are classes"
    )
    assert counts(list_images(tmp_path, KEY, "classes")) == {"train": {"test": 1, "train": 2}}


def test_a_split_beside_classes_is_asked_about(tmp_path, make_tree):
    make_tree(tmp_path, {"cat": 2, "dog": 1, "test": 3})
    assert refused(tmp_path) == (
        "test may be a split, or a class beside cat and dog; say which: dataset.layout=splits (the others are passed "
        "over) or dataset.layout=classes"
    )
    make_tree(
        tmp_path / "rails", {f"{name}/{time}": 1 for name in ("bus", "car", "train") for time in ("day", "night")}
    )
    assert refused(tmp_path / "rails").startswith("train may be a split, or a class beside bus and car; say which: ")
    assert counts(list_images(tmp_path / "rails", KEY, "classes")) == {"train": {"bus": 2, "car": 2, "train": 2}}
    assert counts(list_images(tmp_path / "rails", KEY, "splits")) == {"train": {"day": 1, "night": 1}}


def test_unlabelled_test_images_are_refused(tmp_path, make_tree):
    make_tree(tmp_path, {"train/a": 2, "train/b": 1, "test": 3})
    assert refused(tmp_path) == (
        "test holds images, but no class folders; use test/CLASS/*, or take it away, and test is split off train"
    )


def test_an_empty_split_is_refused(tmp_path, make_tree):
    make_tree(tmp_path, {"train/a": 2, "train/b": 1, "val/a": 0})
    assert refused(tmp_path) == "val holds no images; fill it, or remove it, and val is split off train"


def test_two_folders_for_a_split_are_refused(tmp_path, make_tree):
    make_tree(tmp_path, {"Training/a": 1, "train/a": 1, "train/b": 1})
    assert refused(tmp_path) == "Training and train both stand for train; keep one of them"


def test_the_same_folders_in_all_classes_are_said(tmp_path, make_tree):
    make_tree(tmp_path, {f"{year}/{name}": 1 for year in ("2023", "2024") for name in ("cat", "dog")})
    assert list_images(tmp_path, KEY).notes == [
        "all class folders hold the same folders, 'cat', 'dog'; if those are the classes, dataset.root is one folder "
        "too high"
    ]


def test_splits_beside_a_root_that_is_one_are_said(tmp_path, make_tree):
    make_tree(tmp_path, {f"{split}/{name}": 1 for split in ("train", "test") for name in "ab"})
    assert list_images(tmp_path / "train", KEY).notes == [
        "'test' beside train is not used; for the splits, give the folder that holds them"
    ]


@pytest.mark.parametrize("other", ["cats", "Cats ", "CATS", "Cat\u200bs"])
def test_a_class_that_looks_the_same_in_another_split_is_the_same(tmp_path, make_tree, other):
    make_tree(tmp_path, {"train/Cats": 2, "train/dogs": 1, f"test/{other}": 1, "test/dogs": 1})
    listing = list_images(tmp_path, KEY)
    assert counts(listing) == {"train": {"Cats": 2, "dogs": 1}, "test": {"Cats": 1, "dogs": 1}}
    assert listing.notes == ([] if other.strip() == "Cats" else [f"{other!r} in test is taken for 'Cats' in train"])


def test_classes_that_differ_by_case_alone_stay_two_and_are_said(tmp_path, make_tree):
    make_tree(tmp_path, {f"{split}/{letter}": 1 for split in ("train", "test") for letter in "aAb"})
    listing = list_images(tmp_path, KEY)
    assert counts(listing) == {split: {"A": 1, "a": 1, "b": 1} for split in ("train", "test")}
    assert listing.notes == ["classes that differ by nothing but case: 'A' and 'a'"]


@pytest.mark.parametrize("other", ["cat ", "c\u200bat"])
def test_two_folders_that_look_the_same_are_refused(tmp_path, make_tree, other):
    make_tree(tmp_path, {"cat": 1, other: 1, "dog": 1})
    assert refused(tmp_path).endswith("are both called 'cat'; rename one")


@pytest.mark.parametrize(
    "name",
    [
        *("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__pycache__"),
        *(".ipynb_checkpoints", ".Trash-1000", ".AppleDouble", ".thumbnails", ".snapshot", ".git", "found.000"),
    ],
)
def test_what_systems_leave_behind_is_no_class_and_holds_no_image(tmp_path, make_tree, name):
    assert is_clutter(name)
    folders = {f"{split}/{label}": 1 for split in ("train", "test") for label in "ab"}
    make_tree(tmp_path, {**folders, name: 2, f"train/{name}": 2, f"test/a/{name}": 2, f"test/a/x/{name}/y": 2})
    assert counts(list_images(tmp_path, KEY)) == {"train": {"a": 1, "b": 1}, "test": {"a": 1, "b": 1}}


def test_what_this_program_leaves_in_the_root_is_no_class(tmp_path, make_tree):
    make_tree(tmp_path, {"a": 1, "b": 1, "outputs/run/plots": 2, "mlruns": 0})
    assert counts(list_images(tmp_path, KEY)) == {"train": {"a": 1, "b": 1}}


def test_links_to_folders_above_are_not_followed(tmp_path, make_tree):
    root = make_tree(tmp_path / "root", {"a": 1, "b": 1})
    for name, to in {"a/up": root, "b/top": tmp_path, "b/self": root / "b" / "self", "a/b": root / "b"}.items():
        (root / name).symlink_to(to)
    (root / "b" / "a").symlink_to(root / "a")
    assert counts(list_images(root, KEY)) == {"train": {"a": 2, "b": 2}}
