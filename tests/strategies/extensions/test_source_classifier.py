"""The source's classifier beside the head: there with its weights, unused by the forward pass, gone at the end."""

from collections.abc import Mapping
from types import SimpleNamespace

import pytest

from small_fits import SIZE, changed, small, state_of

# isort: split
import torch
from torch import Tensor, nn

from thawlab.backbones import stages as ruler
from thawlab.backbones.stages import Stage
from thawlab.strategies.extensions import source_classifier
from thawlab.strategies.extensions.contract import Context
from thawlab.strategies.phases import Layers


def layers_of(model: nn.Module) -> Layers:
    return Layers(tuple(ruler.stages(model)), ruler.head_parameters(model), 2)


def extend(model: nn.Module, classifier: Mapping[str, Tensor] | None) -> Layers:
    context = Context("lwf", SIZE, classifier)
    return source_classifier.extend(model, layers_of(model), SimpleNamespace(), context)


def weights(features: int, *more: int) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {"weight": torch.randn(7, features, *more), "bias": torch.randn(7)}


def features_of(model: nn.Module) -> int:
    return model.get_classifier().in_features  # type: ignore[operator, union-attr]


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
def test_it_has_the_source_s_weights_and_is_a_part_of_its_own(name: str) -> None:
    model = small(name).eval()
    images, before = torch.randn(2, 3, SIZE, SIZE), layers_of(model)
    logits, source = model(images), weights(features_of(model))
    layers = extend(model, source)
    assert (layers.stages, layers.head, layers.frozen) == (before.stages, before.head, before.frozen)
    assert layers.beside == (Stage("source_classifier", ("source_classifier.weight", "source_classifier.bias")),)
    assert layers.added == frozenset()
    features = torch.randn(3, features_of(model))
    expected = features @ source["weight"].T + source["bias"]
    torch.testing.assert_close(model.get_submodule("source_classifier")(features), expected)
    assert torch.equal(model(images), logits)
    assert ruler.head_parameters(model) == before.head


def test_it_trains_on_a_copy_of_the_source_s_weights() -> None:
    model = small("test_resnet")
    source = weights(features_of(model))
    kept = source["weight"].clone()
    extend(model, source)
    linear = model.get_submodule("source_classifier")
    linear(torch.ones(1, features_of(model))).sum().backward()
    with torch.no_grad():
        for parameter in linear.parameters():
            assert parameter.grad is not None
            parameter.sub_(parameter.grad)
    assert torch.equal(source["weight"], kept)
    assert not torch.equal(linear.state_dict()["weight"], kept)


def test_a_classifier_without_bias_stays_without() -> None:
    model = small("test_resnet")
    layers = extend(model, {"weight": weights(features_of(model))["weight"]})
    assert layers.beside[0].parameters == ("source_classifier.weight",)


def test_a_convolution_of_one_pixel_becomes_a_linear_layer() -> None:
    model = small("test_resnet")
    source = weights(features_of(model), 1, 1)
    extend(model, source)
    assert torch.equal(model.state_dict()["source_classifier.weight"], source["weight"][:, :, 0, 0])


def test_adding_it_draws_no_random_numbers() -> None:
    model = small("test_resnet")
    source = weights(features_of(model))
    torch.manual_seed(5)
    extend(model, source)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))


def test_export_takes_it_away() -> None:
    model = small("test_resnet")
    plain = state_of(model)
    extend(model, weights(features_of(model)))
    assert len(model.state_dict()) == len(plain) + 2
    source_classifier.export(model)
    assert changed(plain, model.state_dict()) == set()


def test_weights_without_a_classifier_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^strategy=lwf: needs the classifier .* none \(.*\); use weights with"):
        extend(small("test_resnet"), None)


@pytest.mark.parametrize(
    "head", [nn.Conv2d(4, 3, 1), nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)), (nn.Linear(4, 3), nn.Linear(4, 3))]
)
def test_heads_that_are_not_one_linear_layer_are_refused(head: object) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1))
    model.get_classifier = lambda: head  # type: ignore[assignment]
    layers = Layers((Stage("0", ("0.weight", "0.bias")),), (), 0)
    with pytest.raises(ValueError, match=r"^strategy=lwf: .* single linear layer, and this backbone's head is another"):
        source_classifier.extend(model, layers, SimpleNamespace(), Context("lwf", SIZE, weights(4)))


@pytest.mark.parametrize(
    "classifier",
    [
        weights(5),  # of another width
        weights(64, 3, 3),
        {"weight": torch.ones(7, 64), "bias": torch.ones(6)},
    ],
)
def test_weights_of_other_shapes_are_refused(classifier: dict[str, Tensor]) -> None:
    model = small("test_vit")
    assert features_of(model) == 64
    with pytest.raises(
        ValueError, match=r"^strategy=lwf: the source's classifier has weights of shape \(7, .* 64 feat"
    ):
        extend(model, classifier)
    assert "source_classifier" not in dict(model.named_children())
