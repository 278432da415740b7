"""The sizes of gradients, on small networks, beside a plain backward pass."""

from copy import deepcopy

import pytest

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)
from small_fits import changed, freeze, small, state_of

# isort: split
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from thawlab.backbones.stages import head_parameters, stages
from thawlab.training.relative_gradients import fitted_head, relative_gradients


def batches(sizes: tuple[int, ...] = (4, 4)) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(size, 3, 32, 32, generator=generator), torch.randint(0, 3, (size,), generator=generator))
        for size in sizes
    ]


def groups_of(model: nn.Module) -> dict[str, tuple[str, ...]]:
    groups = {stage.name: stage.parameters for stage in stages(model) if stage.parameters}
    return {**groups, "head": head_parameters(model)}


def by_backward(model: nn.Module, data: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """For each batch the group's gradient as one long vector, beside its weights as another; averaged."""
    model = deepcopy(model).eval().requires_grad_(True)
    parameters = dict(model.named_parameters())
    found: dict[str, list[float]] = {}
    for images, labels in data:
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        for group, names in groups_of(model).items():
            gradient = torch.cat([parameters[name].grad.flatten() for name in names])
            weights = torch.cat([parameters[name].detach().flatten() for name in names])
            found.setdefault(group, []).append(float(gradient.norm() / weights.norm()))
    return {group: sum(values) / len(values) for group, values in found.items()}


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_a_group_has_the_norm_of_its_gradient_over_that_of_its_weights(name):
    model = small(name)
    freeze(model, "all")  # most of what is measured is frozen
    found = relative_gradients(model, groups_of(model), batches())
    assert found == pytest.approx(by_backward(model, batches()), rel=1e-4)
    assert len(set(found.values())) == len(found)


def test_nothing_is_left_behind():
    model = small("test_resnet", drop_rate=0.5)
    freeze(model, 2)
    model.layer1.eval()
    for parameter in model.fc.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = state_of(model)
    modes = [module.training for module in model.modules()]
    trained = [parameter.requires_grad for parameter in model.parameters()]
    with fitted_head(model, batches()):
        first = relative_gradients(model, groups_of(model), batches())
    assert changed(before, model.state_dict()) == set()
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == trained
    assert {name for name, each in model.named_parameters() if each.grad is not None} == {"fc.weight", "fc.bias"}
    assert all(bool((parameter.grad == 1).all()) for parameter in model.fc.parameters())
    assert not model.fc._forward_pre_hooks
    with fitted_head(model, batches()):
        assert relative_gradients(model, groups_of(model), batches()) == first


def test_the_head_is_restored_after_an_error_too():
    model = small("test_resnet")
    before = state_of(model)
    fitted: list[set[str]] = []

    def fail() -> None:
        with fitted_head(model, batches()):
            fitted.append(changed(before, model.state_dict()))
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail()
    assert fitted == [{"fc.weight", "fc.bias"}]
    assert changed(before, model.state_dict()) == set()


def test_the_fitted_head_is_scikit_learns_answer_on_the_features_of_the_images():
    model = small("test_convnext")
    images, labels = (torch.cat(each) for each in zip(*batches((4, 3)), strict=True))
    with torch.no_grad():
        features = model.eval().forward_head(model.forward_features(images), pre_logits=True)
    with fitted_head(model, batches((4, 3))):
        logits = model(images)
    expected = LogisticRegression(max_iter=200).fit(features.double().numpy(), labels.numpy())
    torch.testing.assert_close(
        logits.softmax(1).detach(), torch.from_numpy(expected.predict_proba(features)).float(), atol=1e-3, rtol=0
    )


def test_weights_that_are_all_zero_have_no_relative_gradient():
    model = small("test_resnet")
    nn.init.zeros_(model.fc.bias)
    with pytest.raises(ValueError, match="all weights of bias are zero"):
        relative_gradients(model, {"bias": ("fc.bias",)}, batches())


def test_no_images_are_a_mistake():
    model = small("test_resnet")
    with pytest.raises(ValueError, match="no images"):
        relative_gradients(model, groups_of(model), [])
