from pathlib import Path

import pytest

from thawlab.data.folders import portable
from thawlab.data.image_folder import list_images

KEY = "dataset.root=photos"


def names(root: Path) -> dict:
    listing = list_images(root, KEY)
    return {
        split: {name: [path.relative_to(root).as_posix() for path in images] for name, images in classes.items()}
        for split, classes in listing.splits.items()
    }


def counts(root: Path) -> dict:
    splits = list_images(root, KEY).splits
    return {split: {name: len(images) for name, images in classes.items()} for split, classes in splits.items()}


def test_class_folders_in_the_root_are_all_train(tmp_path, make_tree):
    make_tree(tmp_path, {"dog": 2, "cat": 1})
    assert names(tmp_path) == {"train": {"cat": ["cat/0.png"], "dog": ["dog/0.png", "dog/1.png"]}}


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Validation"])
def test_split_folders_are_known_by_their_usual_names(tmp_path, make_tree, val):
    make_tree(tmp_path, {"train/a": 2, "train/b": 1, f"{val}/a": 1, f"{val}/b": 1, "test/a": 3, "test/b": 1})
    assert counts(tmp_path) == {"train": {"a": 2, "b": 1}, "val": {"a": 1, "b": 1}, "test": {"a": 3, "b": 1}}


def test_a_class_called_train_beside_other_classes_is_a_class(tmp_path, make_tree):
    make_tree(tmp_path, {"bus": 2, "car": 1, "train": 3})
    assert counts(tmp_path) == {"train": {"bus": 2, "car": 1, "train": 3}}


def test_folders_beside_the_splits_are_passed_over_and_named(tmp_path, make_tree):
    make_tree(tmp_path, {"train/a": 1, "train/b": 1, "drafts/a": 1})
    assert counts(tmp_path) == {"train": {"a": 1, "b": 1}}
    assert list_images(tmp_path, KEY).stray == ["drafts"]


def test_clutter_is_passed_over_and_other_files_are_counted(tmp_path, make_tree):
    make_tree(tmp_path, {"a": 1, "b": 1, ".git": 1, "__MACOSX": 1})
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0.png", "notes.txt", "list.TXT", "photo.heic", "README"):
        (tmp_path / "a" / name).write_bytes(b"x")
    (tmp_path / "LICENSE").write_text("x")
    (tmp_path / "loose.jpg").write_bytes(b"x")
    listing = list_images(tmp_path, KEY)
    assert counts(tmp_path) == {"train": {"a": 1, "b": 1}}
    assert listing.ignored == {".txt": 2, ".heic": 1, "no extension": 1}
    assert listing.stray == ["loose.jpg"]


def test_extensions_count_in_any_case(tmp_path, make_tree):
    make_tree(tmp_path, {"a": 1}, ".JPG")
    make_tree(tmp_path, {"b": 1}, ".WebP")
    assert counts(tmp_path) == {"train": {"a": 1, "b": 1}}


def test_folders_inside_a_class_are_searched(tmp_path, make_tree):
    make_tree(tmp_path, {"a/2023/may": 2, "a": 1, "b": 1})
    assert names(tmp_path)["train"]["a"] == ["a/0.png", "a/2023/may/0.png", "a/2023/may/1.png"]


def test_links_are_followed_but_not_in_circles(tmp_path, make_tree):
    make_tree(tmp_path / "elsewhere", {"cats": 2, "more": 1})
    root = tmp_path / "root"
    make_tree(root, {"dog": 1})
    (root / "cat").symlink_to(tmp_path / "elsewhere" / "cats")
    (root / "dog" / "linked.png").symlink_to(tmp_path / "elsewhere" / "more" / "0.png")
    (root / "dog" / "loop").symlink_to(root / "dog")
    (tmp_path / "link").symlink_to(root)
    assert names(tmp_path / "link") == {
        "train": {"cat": ["cat/0.png", "cat/1.png"], "dog": ["dog/0.png", "dog/linked.png"]}
    }


def test_names_with_spaces_accents_and_other_scripts_are_kept(tmp_path, make_tree):
    make_tree(tmp_path, {"red shoe": 1, "café": 1, "靴": 1})
    assert list(names(tmp_path)["train"]) == ["café", "red shoe", "靴"]


def test_a_decomposed_accent_is_the_same_class_as_a_composed_one(tmp_path, make_tree):
    make_tree(tmp_path, {"train/café": 1, "train/b": 1, "val/cafe\u0301": 1, "val/b": 1})
    assert [list(classes) for classes in names(tmp_path).values()] == [["b", "café"], ["b", "café"]]


def test_two_folders_for_one_class_are_refused(tmp_path, make_tree):
    make_tree(tmp_path, {"café": 1, "cafe\u0301": 1})
    with pytest.raises(ValueError, match=f"{KEY}: two folders in {tmp_path.name} are both called 'café'; rename one"):
        list_images(tmp_path, KEY)


def test_a_name_that_is_not_unicode_becomes_text():
    assert portable("b\udce9ret") == "b\\xe9ret"


def test_a_missing_root_names_the_nearest_one(tmp_path):
    (tmp_path / "photos2024").mkdir()
    with pytest.raises(FileNotFoundError) as error:
        list_images(tmp_path / "photo2024" / "small", KEY)
    assert str(error.value) == f"{KEY}: there is no such folder; the nearest name is {tmp_path / 'photos2024'}"
    with pytest.raises(FileNotFoundError) as error:
        list_images(tmp_path / "zzz", KEY)
    assert str(error.value) == f"{KEY}: there is no such folder; {tmp_path} exists, but has no 'zzz'"


def test_a_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "photos.zip").write_bytes(b"x")
    with pytest.raises(NotADirectoryError) as error:
        list_images(tmp_path / "photos.zip", KEY)
    assert str(error.value) == f"{KEY}: this is a file; give the folder that holds one folder for each class"


def test_two_validation_folders_are_refused(tmp_path, make_tree):
    make_tree(tmp_path, {"train/a": 1, "val/a": 1, "validation/a": 1})
    with pytest.raises(ValueError, match=f"{KEY}: val and validation both stand for val; keep one of them"):
        list_images(tmp_path, KEY)


def test_splits_without_train_are_refused(tmp_path, make_tree):
    make_tree(tmp_path, {"test/a": 1, "val/a": 1})
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the whole message is compared)
        list_images(tmp_path, KEY)
    expected = f"{KEY}: has test and val, but no train; add {tmp_path / 'train'}, with one folder for each class"
    assert str(error.value) == expected


def test_a_folder_that_may_not_be_read_is_named(tmp_path, make_tree, monkeypatch):
    make_tree(tmp_path, {"a": 1, "b": 1})

    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(PermissionError) as error:
        list_images(tmp_path, KEY)
    assert str(error.value) == f"{KEY}: {tmp_path} may not be read; give yourself the permission"
