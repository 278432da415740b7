"""Files of weights from elsewhere: found under whatever names and wrappings, or refused by what they are."""

import argparse
import collections
import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import Tensor, nn

from thawlab.backbones import pickled
from thawlab.backbones.file_kinds import not_weights
from thawlab.backbones.weight_files import read_weights
from thawlab.backbones.weight_loading import load

KEY = "backbone.checkpoint_path"


class Small(nn.Module):
    """A network that timm did not make, with what the loading asks of one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.fc = nn.Linear(4, 2)

    def get_classifier(self) -> nn.Module:
        return self.fc


def state() -> dict[str, Tensor]:
    torch.manual_seed(3)
    return Small().state_dict()


def under(prefix: str, shift: float = 0.0) -> dict[str, Tensor]:
    return {prefix + name: value + shift for name, value in state().items()}


def read(path: Path):
    return read_weights(path, KEY, state())


def saved(folder: Path, content: object, **how: object) -> Path:
    torch.save(content, folder / "w.pth", **how)
    return folder / "w.pth"


def is_right(found: dict[str, Tensor]) -> bool:
    return found.keys() == state().keys() and all(torch.equal(found[name], value) for name, value in state().items())


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "model._orig_mod.module.",
        "net.",
        "backbone.",
        "any.other.name.",
    ],
)
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_state_dict", "net", "weights", "whatever"])
def test_weights_are_found_under_any_prefix_and_wrapper(prefix, wrapper, tmp_path):
    content = under(prefix) if wrapper is None else {wrapper: under(prefix), "epoch": 3, "loss": torch.ones(1)}
    assert is_right(read(saved(tmp_path, content)).state)


def test_what_stands_beside_the_network_is_left_out_and_told(tmp_path):
    path = saved(tmp_path, {"state_dict": {**under("model."), "criterion.weight": torch.ones(5)}})
    found = read(path)
    assert is_right(found.state)
    assert found.notes == (
        f"{KEY}={path}: state_dict.model is the network; what stands beside it is left out (criterion.weight)",
    )


@pytest.mark.parametrize(
    ("content", "taken", "other"),
    [
        ({"state_dict": under("", 1), "state_dict_ema": under("")}, "state_dict_ema", "state_dict"),
        ({"model": under("m.", 1), "model_ema": under("module.")}, "model_ema.module", "model.m"),
        ({**under("student.", 1), **under("teacher.")}, "teacher", "student"),
    ],
)
def test_of_several_the_moving_average_is_taken_and_told(content, taken, other, tmp_path):
    found = read(saved(tmp_path, content))
    assert is_right(found.state)
    assert [note.partition("once; ")[2] for note in found.notes] == [f"{taken} is taken, not {other}"]


def test_counts_of_operations_are_no_weights(tmp_path):
    extra = {"total_ops": torch.zeros(1), "stem.0.total_params": torch.zeros(1)}
    assert is_right(read(saved(tmp_path, {**state(), **extra})).state)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_single(kind, tmp_path):
    content = {name: value.to(kind) if value.is_floating_point() else value for name, value in state().items()}
    found = read(saved(tmp_path, content)).state
    assert {value.dtype for value in found.values()} == {torch.float32, torch.int64}
    assert torch.equal(found["fc.weight"], content["fc.weight"].float())


class Settings:
    """Of the script that saved it."""


@pytest.mark.parametrize("zipped", [True, False])
def test_settings_beside_the_weights_are_skipped(zipped, tmp_path, monkeypatch):
    monkeypatch.setattr(Settings, "__module__", "__main__")
    monkeypatch.setattr("__main__.Settings", Settings, raising=False)
    content = {
        "state_dict": state(),
        "args": argparse.Namespace(lr=0.1, folder=Path("x")),
        "hyper_parameters": OmegaConf.create({"lr": 0.1, "layers": [1, {"of": "them"}]}),
        "history": collections.defaultdict(list, {"loss": [np.float64(3)]}),
        "array": np.arange(3),
        "mine": Settings(),
        "optimizer": torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0),
    }
    path = saved(tmp_path, content, _use_new_zipfile_serialization=zipped)
    assert is_right(read(path).state)
    assert isinstance(pickled.load(path)["args"], pickled.Skipped)


def test_a_file_is_read_by_its_content_whatever_its_ending(tmp_path):
    save_file(state(), tmp_path / "a.pth")
    torch.save(state(), tmp_path / "b.safetensors")
    assert is_right(read(tmp_path / "a.pth").state)
    assert is_right(read(tmp_path / "b.safetensors").state)


@pytest.mark.parametrize(
    ("content", "how", "message"),
    [
        (nn.Conv2d(1, 1, 1), {}, "holds an object of torch.nn.modules.conv.Conv2d, which would have to run code"),
        ({"model": state(), "f": breakpoint}, {}, "holds an object of "),
        (Path("x"), {}, r"holds no state_dict \(names to tensors\) but a whole object"),
        ([state()], {}, r"holds no state_dict \(names to tensors\); name"),
        ({"epoch": 3, "lr": 1}, {}, r"holds no state_dict \(names to tensors\) but epoch, lr; name"),
    ],
)
def test_what_is_no_state_dict_is_called_by_its_name(content, how, message, tmp_path):
    path = saved(tmp_path, content, **how)
    with pytest.raises(ValueError, match=f"^{KEY}={path}: {message}"):
        read(path)


def zipped(*names: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), "x")  # without the time, the same for all who collect the tests
    return data.getvalue()


def tarred() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("w.pth"))
    return data.getvalue()


@pytest.mark.parametrize(
    ("content", "meaning"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n", "a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "a web page (HTML)"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"),
        (b'{"error": "Repository not found"}', "JSON"),
        (b'{"weight_map": {"a": "model-00001-of-00002.safetensors"}}', "the index of weights that lie in several"),
        ("Accès refusé".encode(), 'text that begins with "Accès refusé"'),
        (b"\x89HDF\r\n\x1a\n\0\0", "an HDF5 file"),
        (b"\x08\x07\x12\x07pytorch\x1a\x031.9", "an ONNX model"),
        (b"\x1f\x8b\x08\0", "compressed with gzip"),
        (b"\0" * 600, "damaged"),
        (b"\xfe\xdc\xba\x98" * 9, "neither safetensors nor a file of torch.save"),
        (zipped("a.npy", "b.npy"), "an archive of NumPy arrays"),
        (zipped("m/data.pkl", "m/constants.pkl", "m/code/x.py"), "a TorchScript archive"),
        (zipped("photos/1.png"), "a zip archive of other files (photos/1.png)"),
        (zipped("w/data.pkl")[:-30], "damaged or incomplete"),
        (zipped("model/saved_model.pb"), "a TensorFlow SavedModel"),
        (tarred(), "a tar archive"),
        (pickle.dumps({"a": 1}), "a pickle that torch.save did not write"),
        (pickle.dumps({"a": 1}, protocol=0), "a pickle that torch.save did not write"),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",
)
def test_what_is_no_file_of_weights_is_called_by_what_it_is(content, meaning, tmp_path):
    (tmp_path / "w.pth").write_bytes(content)
    told = not_weights(tmp_path / "w.pth")
    assert told is not None
    assert told.startswith(meaning)
    with pytest.raises(ValueError, match=f"^{KEY}={tmp_path / 'w.pth'}: "):
        read(tmp_path / "w.pth")


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_half_a_download_is_called_incomplete(form, tmp_path):
    path = tmp_path / "w"
    if form == "safetensors":
        save_file(state(), path)
    else:
        torch.save(state(), path, _use_new_zipfile_serialization=form == "zip")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=f"^{KEY}={path}: damaged or incomplete.*download or copy"):
        read(path)


def test_of_a_folder_the_file_in_it_is_named(tmp_path):
    assert not_weights(tmp_path) == "a folder; name the file of weights in it"
    for name in ("a.bin", "model.safetensors", "pytorch_model.bin"):
        (tmp_path / name).touch()
    assert not_weights(tmp_path) == f"a folder; name the file of weights in it: {tmp_path / 'model.safetensors'}"


def test_weights_without_the_counts_of_batches_are_whole():
    model = Small()
    load(model, {name: value for name, value in state().items() if "num_batches" not in name}, "w")
    assert torch.equal(model.stem[0].weight, state()["stem.0.weight"])


def test_a_part_of_the_weights_is_never_loaded():
    model = Small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    part = {name: value for name, value in state().items() if name != "stem.1.bias"}
    with pytest.raises(
        ValueError, match=r"^w: weights of another .*: of 7 entries, 1 missing \(stem\.1\.bias…\); name "
    ):
        load(model, part, "w")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
