import numpy as np
import torch
from starts import drift, settings, start_of, step

from small_fits import small
from thawlab.strategies.regularisers.l2_sp import create


def test_the_term_is_the_distance_from_the_start_for_what_was_transferred_and_the_size_for_all_else():
    model = small("test_resnet")
    before = {name: value.detach().clone().numpy() for name, value in model.named_parameters()}
    start = start_of(model, freeze=1, kept=3)  # frozen: stem; from the source: layer1, layer2; random: layer3, layer4
    term = create(settings(alpha=0.3, beta=0.7), start)
    drift(model)
    expected = 0.0
    for name, value in model.named_parameters():
        now = value.detach().double().numpy()
        if name.startswith(("layer1.", "layer2.")):
            expected += 0.3 / 2 * np.square(now - before[name]).sum()
        elif name.startswith(("layer3.", "layer4.", "fc.")):
            expected += 0.7 / 2 * np.square(now).sum()
    assert np.isclose(step(model, term).item(), expected, rtol=1e-5)


def test_the_distance_is_zero_at_the_start_and_its_gradient_leads_back():
    model = small("test_resnet")
    term = create(settings(alpha=1.0, beta=0.0), start_of(model))
    assert step(model, term).item() == 0
    weight = model.layer2[0].bn1.weight  # type: ignore[index,union-attr]
    with torch.no_grad():
        weight += 0.5
    step(model, term).backward()
    torch.testing.assert_close(weight.grad, torch.full_like(weight, 0.5))  # BatchNorm's parameters count
    assert not model.layer1[0].conv1.weight.grad.any()  # type: ignore[index,union-attr]


def test_the_term_of_a_phase_for_the_head_alone_is_the_heads_size():
    model = small("test_resnet")
    term = create(settings(alpha=1.0, beta=2.0), start_of(model, freeze=5))
    expected = sum(np.square(value.detach().numpy()).sum() for value in model.fc.parameters())  # type: ignore[union-attr]
    assert np.isclose(step(model, term).item(), expected)
    assert create(settings(alpha=1.0, beta=2.0), start_of(small("test_resnet"), freeze=5)).origin == []
