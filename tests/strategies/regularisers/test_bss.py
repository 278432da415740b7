import copy

import numpy as np
import pytest
import torch
from starts import features_of, hooks, images, settings, start_of, step
from torch import nn

from small_fits import small
from thawlab.strategies.regularisers.bss import create


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet", "test_convnext"])
def test_the_term_is_the_sum_of_the_smallest_squared_singular_values_of_the_features(name: str):
    model = small(name).eval()
    term = create(settings(eta=0.1, smallest=2), start_of(model))
    features = features_of(model, images()).detach().double().numpy()
    expected = 0.1 * np.square(np.sort(np.linalg.svd(features, compute_uv=False))[:2]).sum()
    assert np.isclose(step(model, term).item(), expected, rtol=1e-3)


def test_more_values_than_there_are_means_all_of_them():
    model = small("test_resnet").eval()
    term = create(settings(eta=1.0, smallest=100), start_of(model))
    features = features_of(model, images()).detach().numpy()
    assert np.isclose(step(model, term).item(), np.square(features).sum(), rtol=1e-4)  # ‖F‖², the sum of them all


def test_its_gradient_reaches_the_trained_stages_and_nothing_else():
    model = small("test_resnet").train()
    term = create(settings(eta=1.0, smallest=1), start_of(model, freeze=2))
    step(model, term).backward()
    reached = {name.split(".")[0] for name, value in model.named_parameters() if value.grad is not None}
    assert reached == {"layer2", "layer3", "layer4"}


def test_it_is_taken_in_full_precision_under_autocast():
    model = small("test_resnet").train()
    term = create(settings(eta=1.0, smallest=1), start_of(model))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = step(model, term)
    assert value.dtype == torch.float32
    value.backward()
    assert model.layer4[0].downsample[1].weight.grad.any()  # type: ignore[index,union-attr]


def test_features_are_not_held_after_the_step_nor_those_of_a_validation_at_all():
    model = small("test_resnet")
    term = create(settings(eta=1.0, smallest=1), start_of(model))
    step(model, term)
    assert term.tap.take() is None
    with torch.no_grad():
        model(images())
    assert term.tap.take() is None


def test_closing_removes_its_hooks():
    model = small("test_resnet")
    before = list(hooks(model))
    term = create(settings(eta=1.0, smallest=1), start_of(model))
    assert list(hooks(model)) != before
    term.close()
    assert list(hooks(model)) == before


def test_a_copy_of_network_and_term_goes_on_by_itself():
    model = small("test_resnet").eval()
    term = create(settings(eta=1.0, smallest=1), start_of(model))
    other, its_term = copy.deepcopy((model, term))
    other(images(seed=5))
    assert term.tap.take() is None
    assert step(other, its_term).item() == step(model, term).item()


def test_a_classifier_of_several_layers_is_refused():
    model = small("test_resnet")
    start = start_of(model)
    model.get_classifier = lambda: nn.Sequential(model.fc)  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"^strategy=some: needs a single linear classifier, .* type Sequential; "):
        create(settings(eta=1.0, smallest=1), start)
