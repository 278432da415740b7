import numpy as np
import pytest
import torch
from starts import drift, features_of, hooks, images, settings, start_of, step, with_source_classifier

from small_fits import small
from thawlab.strategies.regularisers.lwf import create


def softened(logits: torch.Tensor, temperature: float) -> np.ndarray:
    powers = np.exp(logits.detach().double().numpy() / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def test_the_term_is_the_divergence_of_the_softened_answers_from_those_at_the_start():
    model = small("test_resnet").eval()
    classifier = with_source_classifier(model)
    term = create(settings(strength=4.0, temperature=2.0), start_of(model, source_classifier=classifier))
    before = softened(features_of(model, images()) @ classifier["weight"].T + classifier["bias"], 2.0)
    drift(model)
    now = softened(model.source_classifier(features_of(model, images())), 2.0)  # type: ignore[operator]
    expected = 4.0 * (before * np.log(before / now)).sum(axis=1).mean()
    assert expected > 1e-3
    assert np.isclose(step(model, term).item(), expected, rtol=1e-3)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
def test_the_term_is_zero_at_the_start(name: str):
    model = small(name).eval()
    start = start_of(model, source_classifier=with_source_classifier(model))
    assert abs(step(model, create(settings(strength=4.0, temperature=2.0), start)).item()) < 1e-6


def test_its_gradient_reaches_the_network_but_not_what_it_is_compared_with():
    model = small("test_resnet").train()
    start = start_of(model, freeze=1, source_classifier=with_source_classifier(model))
    term = create(settings(strength=4.0, temperature=2.0), start)
    drift(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = step(model, term)
    assert value.dtype == torch.float32
    value.backward()
    reached = {name.split(".")[0] for name, each in model.named_parameters() if each.grad is not None}
    assert reached == {"layer1", "layer2", "layer3", "layer4", "source_classifier"}
    assert not any(each.requires_grad for each in term.source._model.parameters())
    assert not term.source._model.training


def test_closing_removes_its_hooks():
    model = small("test_resnet")
    start = start_of(model, source_classifier=with_source_classifier(model))
    create(settings(strength=4.0, temperature=2.0), start).close()
    assert not list(hooks(model))


def test_weights_without_a_source_classifier_are_refused():
    with pytest.raises(ValueError, match=r"^strategy=some: these weights came without a classifier of their own; "):
        create(settings(strength=4.0, temperature=2.0), start_of(small("test_resnet")))
