import os
from pathlib import Path

import pytest

from thawlab.backbones.file_kinds import LEGACY
from thawlab.config.schema import ConfigError
from thawlab.launch import preflight
from thawlab.launch.compose import compose


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def config(*arguments: str):
    job = compose(arguments, "train.py")
    assert job is not None
    return job.config


def inputs(*arguments: str) -> str:
    with pytest.raises(ConfigError) as caught:
        preflight.check_inputs(config("dataset=folder", *arguments))
    return str(caught.value)


def store(*arguments: str) -> str:
    with pytest.raises(ConfigError) as caught:
        preflight.check_store(config(*arguments))
    return str(caught.value)


def test_what_is_there_is_left_alone(tmp_path):
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    (tmp_path / "weights.pth").write_bytes(LEGACY)  # as torch.save begins a file
    found = config("dataset=folder", "dataset.root=photos", "backbone.checkpoint_path=weights.pth")
    preflight.check_inputs(found)
    preflight.check_store(found)
    preflight.check_inputs(config("backbone.checkpoint_path=run:0123"))  # the store knows
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "outputs") == ["photos", "weights.pth"]


def test_a_root_that_cannot_be_a_data_set_is_told(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "list.txt").touch()
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    assert inputs("dataset.root=photo") == (
        f"dataset.root=photo: there is no such folder; the nearest name is {tmp_path / 'photos'}"
    )
    assert inputs("dataset.root=list.txt").startswith("dataset.root=list.txt: this is a file; ")
    assert inputs("dataset.root=list.txt/x").endswith("list.txt is a file")
    assert inputs("dataset.root=photos").startswith("dataset.root=photos: no images in class folders (found nothing)")
    assert inputs("dataset.root=link").endswith(f"is a link to {tmp_path / 'gone'}, which is gone")
    assert inputs("dataset.root=~nobody-of-this-name/x") == (
        "dataset.root=~nobody-of-this-name/x: there is no such home folder; write the path in full"
    )


def test_all_that_is_missing_is_told_at_once(tmp_path):
    (tmp_path / "folder").mkdir()
    assert inputs("dataset.root=photos", "backbone.checkpoint_path=w.pth").splitlines() == [
        f"dataset.root=photos: there is no such folder; {tmp_path} exists, but has no 'photos'",
        f"backbone.checkpoint_path=w.pth: no such file; here is {tmp_path}",
    ]
    told = inputs("dataset.root=photos", "backbone.checkpoint_path=folder")
    assert "backbone.checkpoint_path=folder: a folder; name the file of weights in it" in told


def test_a_store_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "mlruns").touch()
    assert store() == (
        f"tracking.root=mlruns: {tmp_path / 'mlruns'} is a file, where a folder should be; use tracking.root=FOLDER "
        "that you can write to"
    )
    (tmp_path / "x" / "m.db").mkdir(parents=True)
    assert "x is a" not in store("tracking.uri=sqlite:///mlruns/m.db")
    assert "this names no file" in store("tracking.uri=sqlite:///x/m.db")
    assert "it lacks http://" in store("tracking.uri=localhost:5000")
    assert "(nothing answers)" in store("tracking.uri=http://127.0.0.1:9")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_told(tmp_path):
    folder = Path(tmp_path / "locked")
    folder.mkdir(mode=0o500)
    assert f"nothing can be written in {folder}" in store("tracking.root=locked/mlruns")


def test_an_output_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "outputs").touch()
    with pytest.raises(ConfigError, match=r"cannot be made \(outputs is a file\); .* or use hydra.run.dir=FOLDER"):
        compose(["epochs=1"], "train.py")
