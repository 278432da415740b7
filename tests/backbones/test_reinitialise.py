"""Which weights a transfer depth keeps, and where the others come from."""

import pytest

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import timm
import torch
from torch import Tensor, nn

from small_fits import SIZE, changed, state_of
from thawlab.backbones import stages as ruler
from thawlab.backbones.reinitialise import reinitialise

OPTIONS = {
    "test_resnet": {"num_classes": 3},
    "test_efficientnet": {"num_classes": 3},
    "test_convnext": {"num_classes": 3},
    "test_vit": {"num_classes": 3, "img_size": SIZE},
}


def pretrained(name: str) -> nn.Module:
    """A network in which no weight and no statistic has a value that a fresh one could have."""
    model = timm.create_model(name, **OPTIONS[name])
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in model.state_dict().values():
            random = torch.rand(value.shape, generator=generator) + 2
            value.copy_(random if value.is_floating_point() else random * 1000)
    return model


def fresh(name: str) -> dict[str, Tensor]:
    torch.manual_seed(11)
    return timm.create_model(name, **OPTIONS[name]).state_dict()


def transferred(name: str, depth: int | str) -> tuple[dict[str, Tensor], nn.Module, set[str]]:
    """The state before, the model after, and what of the state lies above the transfer depth."""
    model = pretrained(name)
    before = state_of(model)
    stages = ruler.stages(model)
    drawn = {key for stage in stages[ruler.depth_to_count(depth, stages) :] for key in stage.parameters}
    torch.manual_seed(11)
    reinitialise(model, name, drawn, OPTIONS[name])
    owners = {key.rpartition(".")[0] for key in drawn}
    statistics = {key for key, _ in model.named_buffers() if key.rpartition(".")[0] in owners}
    return before, model, (drawn | statistics) & before.keys()


@pytest.mark.parametrize("depth", ["none", "stem", 1, 2, 3])
@pytest.mark.parametrize("name", OPTIONS)
def test_stages_up_to_the_transfer_depth_are_kept_and_the_others_are_as_in_a_fresh_network(name, depth):
    before, model, above = transferred(name, depth)
    after = model.state_dict()
    assert changed(before, after) == above
    expected = fresh(name)
    assert {key for key in above if not torch.equal(after[key], expected[key])} == set()


def test_transfer_2_of_a_resnet_redraws_layer3_and_layer4_with_their_statistics():
    before, model, _ = transferred("test_resnet", 2)
    moved = changed(before, model.state_dict())
    assert {key.split(".")[0] for key in moved} == {"layer3", "layer4"}
    assert moved == {key for key in before if key.startswith(("layer3", "layer4"))}
    assert model.state_dict()["layer3.0.bn1.num_batches_tracked"] == 0


@pytest.mark.parametrize("name", OPTIONS)
def test_transfer_all_changes_nothing_and_draws_nothing(name):
    torch.manual_seed(5)
    expected = torch.rand(1)
    before, model, _ = transferred(name, "all")
    assert changed(before, model.state_dict()) == set()
    torch.manual_seed(5)
    reinitialise(model, name, [], OPTIONS[name])
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("name", OPTIONS)
def test_transfer_none_leaves_of_the_pretrained_network_its_new_head_alone(name):
    before, model, _ = transferred(name, "none")
    kept = before.keys() - changed(before, model.state_dict())
    assert kept == set(ruler.head_parameters(model))
