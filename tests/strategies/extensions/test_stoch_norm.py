"""Stochastic normalisation: what each channel is normalised by, and what stays as BatchNorm has it."""

from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest

from small_fits import SIZE, changed, small, state_of

# isort: split
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from thawlab.backbones import stages as ruler
from thawlab.strategies.extensions import stoch_norm
from thawlab.strategies.extensions.contract import Context
from thawlab.strategies.phases import Layers

CHANNELS = 6


def extend(model: nn.Module, probability: float, frozen: int = 0) -> Layers:
    layers = Layers(tuple(ruler.stages(model)), ruler.head_parameters(model), frozen)
    return stoch_norm.extend(model, layers, SimpleNamespace(probability=probability), Context("stoch_norm", SIZE, None))


def extend_layer(norm: nn.Module, probability: float) -> nn.Module:
    """A copy of one layer, extended."""
    model = nn.Sequential(deepcopy(norm))
    layers = Layers((ruler.Stage("0", ("0.weight", "0.bias")),), (), 0)
    settings = SimpleNamespace(probability=probability)
    assert stoch_norm.extend(model, layers, settings, Context("stoch_norm", SIZE, None)) is layers
    return model[0]


def norm_with_history(kind: type[nn.Module] = nn.BatchNorm2d) -> nn.Module:
    torch.manual_seed(0)
    norm = kind(CHANNELS)
    with torch.no_grad():
        for name in ("weight", "running_var"):
            getattr(norm, name).uniform_(0.5, 2.0)
        for name in ("bias", "running_mean"):
            getattr(norm, name).normal_()
    return norm.train()


def batch(kind: type[nn.Module] = nn.BatchNorm2d) -> Tensor:
    shape = (5, CHANNELS) if kind is nn.BatchNorm1d else (5, CHANNELS, 4, 3)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 3 + 1


kinds = pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, BatchNormAct2d])


@kinds
def test_with_probability_0_it_is_batch_norm(kind: type[nn.Module]) -> None:
    norm = norm_with_history(kind)
    stochastic = extend_layer(norm, 0.0)
    assert torch.equal(stochastic(batch(kind)), norm(batch(kind)))


@kinds
def test_with_probability_1_it_normalises_by_the_statistics_before_the_step(kind: type[nn.Module]) -> None:
    norm = norm_with_history(kind)
    stochastic = extend_layer(norm, 1.0)
    assert torch.equal(stochastic(batch(kind)), norm.eval()(batch(kind)))


@kinds
@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_running_statistics_move_as_those_of_batch_norm(kind: type[nn.Module], probability: float) -> None:
    norm = norm_with_history(kind)
    before = state_of(norm)
    stochastic = extend_layer(norm, probability)
    for model in (norm, stochastic):
        model(batch(kind))
        model(batch(kind) * 2)
    assert changed(before, norm.state_dict()) == {"running_mean", "running_var", "num_batches_tracked"}
    assert changed(state_of(norm), stochastic.state_dict()) == set()


@kinds
def test_in_eval_mode_it_is_batch_norm(kind: type[nn.Module]) -> None:
    norm = norm_with_history(kind).eval()
    stochastic = extend_layer(norm, 0.5).eval()
    before = state_of(norm)
    assert torch.equal(stochastic(batch(kind)), norm(batch(kind)))
    assert changed(before, stochastic.state_dict()) == set()


def by_hand(norm: nn.Module, x: np.ndarray, by_running: np.ndarray) -> np.ndarray:
    """Each channel normalised by the statistics that are chosen for it, in float64."""
    state = {name: value.double().numpy().copy() for name, value in norm.state_dict().items()}
    out = np.empty_like(x)
    for channel in range(CHANNELS):
        mean, variance = x[:, channel].mean(), x[:, channel].var()
        if by_running[channel]:
            mean, variance = state["running_mean"][channel], state["running_var"][channel]
        normalised = (x[:, channel] - mean) / np.sqrt(variance + 1e-5)
        out[:, channel] = state["weight"][channel] * normalised + state["bias"][channel]
    return out


@kinds
def test_each_channel_is_normalised_by_what_was_drawn_for_it(kind: type[nn.Module]) -> None:
    norm = norm_with_history(kind)
    stochastic = extend_layer(norm, 0.4)
    torch.manual_seed(3)
    by_running = (torch.rand(CHANNELS) < 0.4).numpy()
    assert 0 < by_running.sum() < CHANNELS
    expected = by_hand(norm, batch(kind).double().numpy(), by_running)
    if kind is BatchNormAct2d:
        expected = np.maximum(expected, 0)  # its activation is a ReLU
    torch.manual_seed(3)
    out = stochastic(batch(kind)).detach().numpy()
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_gradients_are_those_of_the_normalisation_that_was_drawn() -> None:
    norm = norm_with_history()
    stochastic = extend_layer(norm, 0.4)
    torch.manual_seed(3)
    by_running = torch.rand(CHANNELS) < 0.4
    target = torch.randn(5, CHANNELS, 4, 3)
    x = batch().requires_grad_()
    torch.manual_seed(3)
    (stochastic(x) * target).sum().backward()

    by_hand = batch().double().requires_grad_()
    state = {name: value.double() for name, value in norm.state_dict().items()}
    mean = torch.where(by_running, state["running_mean"], by_hand.mean((0, 2, 3)))
    variance = torch.where(by_running, state["running_var"], by_hand.var((0, 2, 3), unbiased=False))
    columns = [each.view(1, -1, 1, 1) for each in (mean, variance, state["weight"], state["bias"])]
    out = (by_hand - columns[0]) / (columns[1] + 1e-5).sqrt() * columns[2] + columns[3]
    (out * target.double()).sum().backward()
    assert x.grad is not None
    assert by_hand.grad is not None
    torch.testing.assert_close(x.grad.double(), by_hand.grad, rtol=1e-3, atol=1e-4)


def test_channels_are_drawn_anew_in_every_step() -> None:
    stochastic = extend_layer(norm_with_history(), 0.5)
    state = state_of(stochastic)
    drawn = set()
    for _ in range(10):
        stochastic.load_state_dict(state)
        drawn.add(stochastic(batch()).sum().item())
    assert len(drawn) > 5


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_a_network_keeps_its_names_and_gets_its_classes_back(name: str) -> None:
    model = small(name)
    classes, state = [type(module) for module in model.modules()], state_of(model)
    names = [name for name, _ in model.named_parameters()]
    extend(model, 0.5)
    now = [type(module) for module in model.modules()]
    norms = (nn.BatchNorm2d, BatchNormAct2d)
    assert [old in norms for old in classes] == [old is not new for old, new in zip(classes, now, strict=True)]
    assert [name for name, _ in model.named_parameters()] == names
    assert changed(state, model.state_dict()) == set()
    stoch_norm.export(model)
    assert [type(module) for module in model.modules()] == classes
    assert not any("probability" in vars(module) for module in model.modules())


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_a_network_trains_at_random_and_evaluates_as_before(name: str) -> None:
    model, images = small(name), torch.randn(4, 3, SIZE, SIZE)
    at_first = model.eval()(images)
    extend(model, 0.5)
    assert torch.equal(model(images), at_first)
    outputs = [deepcopy(model).train()(images) for _ in range(2)]
    assert not torch.equal(*outputs)
    outputs[0].sum().backward()
    model.train()(images).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_layers_below_the_freeze_depth_stay_plain() -> None:
    model = small("test_resnet")
    extend(model, 0.5, frozen=3)  # stem, layer1, layer2
    stochastic = {path for path, module in model.named_modules() if type(module) is stoch_norm.StochNorm2d}
    above = {path for path, module in model.named_modules() if type(module) in (nn.BatchNorm2d, *stoch_norm._PLAIN)}
    assert stochastic
    assert stochastic == {path for path in above if path.startswith(("layer3", "layer4"))}


def test_networks_without_batch_norm_above_the_freeze_depth_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^strategy=stoch_norm: this backbone has no BatchNorm .*; freeze fewer"):
        extend(small("test_vit"), 0.5)
    resnet = small("test_resnet")
    with pytest.raises(ValueError, match="no BatchNorm above the freeze depth"):
        extend(resnet, 0.5, frozen=len(ruler.stages(resnet)))
