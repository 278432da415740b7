"""The ruler against the forward pass of timm's architectures: one of each family, and, marked slow, every one.

Models are built and run on the meta device, where a forward pass computes shapes only, so that the largest take a
second. Parameter uses are watched below the modules, in the calls that PyTorch's operations receive: this sees tokens
and positions, which no module owns, and knows nothing of names or rules.
"""

import pytest

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import timm
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from thawlab.backbones.stages import depth_to_count, head_parameters, stages

# Vision encoders of larger models: they give feature maps, and timm gives them no classifier.
ENCODERS = {
    "deepseek_vit_412m_enc",
    "gemma4_vit_167m_enc",
    "gemma4_vit_570m_enc",
    "mobilenetv5_300m_enc",
    "qwen3_vit_88m_enc",
    "qwen3_vit_306m_enc",
    "qwen3_vit_416m_enc",
}
CLASSIFIERS = [name for name in timm.list_models() if name not in ENCODERS]
ONE_OF_EACH_FAMILY = [
    timm.list_models(module=family)[0] for family in timm.list_modules() if timm.list_models(module=family)
]


class FirstUses(TorchFunctionMode):
    """The names of a model's parameters in the order in which operations first receive them."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.names = {id(parameter): name for name, parameter in model.named_parameters()}
        self.seen: dict[str, None] = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        for value in tree_leaves((args, kwargs)):
            if id(value) in self.names:
                self.seen.setdefault(self.names[id(value)])
        return func(*args, **(kwargs or {}))


def build(name: str, device: str = "meta") -> nn.Module:
    with torch.device(device):
        return timm.create_model(name, num_classes=7).eval()


def first_uses(model: nn.Module) -> list[str]:
    images = torch.zeros(1, *model.pretrained_cfg["input_size"], device=next(model.parameters()).device)
    with FirstUses(model) as uses, torch.no_grad():
        model(images)
    return list(uses.seen)


def check_ruler(name: str) -> None:
    model = build(name)
    ruler, head = stages(model), head_parameters(model)
    in_order = [parameter for parameter, _ in model.named_parameters()]
    rank = {parameter: index for index, parameter in enumerate(in_order)}

    stage_names = [stage.name for stage in ruler]
    assert stage_names[0] == "stem"
    assert len(set(stage_names)) == len(stage_names) > 1
    for stage in ruler:
        assert list(stage.parameters) == sorted(stage.parameters, key=rank.__getitem__)
        assert stage.parameters or (stage.name == "stem" and type(model).__name__ == "VGG")
        assert stage.name == "stem" or any(parameter.startswith(stage.name) for parameter in stage.parameters)

    frozen = [parameter for stage in ruler[: depth_to_count("all", ruler)] for parameter in stage.parameters]
    assert sorted([*frozen, *head]) == sorted(in_order)  # each exactly once, and freeze=all leaves the head

    index = {parameter: i for i, stage in enumerate(ruler) for parameter in stage.parameters}
    index |= dict.fromkeys(head, len(ruler))
    used = first_uses(model)
    assert set(used) == set(in_order)
    assert [index[parameter] for parameter in used] == sorted(index.values())


@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_stages_are_in_forward_order_and_hold_each_parameter_once(name):
    check_ruler(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_stages_of_every_classifier_are_in_forward_order_and_hold_each_parameter_once(name):
    check_ruler(name)


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_an_encoder_without_classifier_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"backbone={name}: it has no classifier; use an architecture that classifies"):
        stages(build(name))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet", "test_byobnet"])
def test_a_pass_on_the_meta_device_uses_parameters_in_the_order_of_a_real_one(name):
    assert first_uses(build(name)) == first_uses(build(name, "cpu"))
