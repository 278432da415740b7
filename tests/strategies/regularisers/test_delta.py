import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from starts import drift, hooks, images, labels, settings, start_of, step, with_source_classifier
from torch import Tensor, nn

from small_fits import CLASSES, small
from thawlab.strategies.regularisers import bss
from thawlab.strategies.regularisers.delta import create

SWIN = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "window_size": 4}
NETWORKS = {"test_resnet": {}, "test_efficientnet": {}, "test_convnext": {}, "test_vit": {}}
NETWORKS["swin_tiny_patch4_window7_224"] = SWIN


def plain(**changes):
    return settings(**{"alpha": 1.0, "beta": 0.0, "attention": False, "attention_images": 4, **changes})


def outputs(model: nn.Module, paths: list[str], batch: Tensor) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    handles = [
        model.get_submodule(path).register_forward_hook(
            lambda m, a, output, path=path: found.update({path: output.detach().double().numpy()})
        )
        for path in paths
    ]
    model(batch)
    for handle in handles:
        handle.remove()
    return found


def test_the_term_is_the_weighted_distance_of_the_maps_and_the_heads_size():
    model = small("test_resnet").eval()
    start = start_of(model, freeze=2, kept=4)  # held: layer2 and layer3
    term = create(plain(alpha=0.3, beta=0.7, attention=True), start)
    before = copy.deepcopy(model)
    drift(model)
    expected = 0.7 / 2 * sum(value.detach().double().square().sum().item() for value in model.fc.parameters())  # type: ignore[union-attr]
    now, then = (outputs(each, ["layer2", "layer3"], images()) for each in (model, before))
    for stage, path in zip(term.held, ("layer2", "layer3"), strict=True):
        difference = now[path] - then[path]  # (B, C, H, W)
        channels, height, width = difference.shape[1:]
        by_channel = np.square(difference).sum(axis=(0, 2, 3))
        weights = stage.attention.double().numpy() * channels / (height * width)
        assert np.isclose(stage.attention.sum(), 1)
        expected += 0.3 / 2 * (weights * by_channel).sum()
    assert np.isclose(step(model, term).item(), expected, rtol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_without_attention_all_channels_count_alike_whatever_the_layout(name: str):
    model = small(name, **NETWORKS[name]).eval()
    term = create(plain(), start_of(model))
    paths = [stage.name for stage in start_of(model).layers.stages[1:]]
    before = copy.deepcopy(model)
    drift(model)
    now, then = (outputs(each, paths, images()) for each in (model, before))
    assert len(term.held) == len(paths)
    channels = [len(stage.attention) for stage in term.held]
    expected = sum(
        np.square(now[path] - then[path]).sum() / (now[path][0].size / width) / 2
        for path, width in zip(paths, channels, strict=True)
    )
    assert np.isclose(step(model, term).item(), expected, rtol=1e-3)


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_distance_is_zero_at_the_start(name: str, attention: bool):
    model = small(name, **NETWORKS[name]).eval()
    term = create(plain(attention=attention, attention_images=2), start_of(model, freeze=3))
    assert step(model, term).item() == 0


def test_its_gradient_reaches_what_is_trained_and_not_the_source_under_autocast():
    model = small("test_resnet").train()
    term = create(plain(), start_of(model, freeze=1))
    source = {name: value.clone() for name, value in term.source.state_dict().items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = step(model, term)
    assert value.dtype == torch.float32
    value.backward()
    reached = {name.split(".")[0] for name, each in model.named_parameters() if _reached(each)}
    assert reached == {"layer1", "layer2", "layer3", "layer4"}
    assert all(each.grad is None for each in term.source.parameters())
    assert all(torch.equal(each, source[name]) for name, each in term.source.state_dict().items())  # its statistics too


def _reached(parameter: nn.Parameter) -> bool:
    return parameter.grad is not None and bool(parameter.grad.any())


def test_maps_are_not_held_after_the_step():
    model = small("test_resnet")
    term = create(plain(), start_of(model))
    step(model, term)
    assert [tap.take() for stage in term.held for tap in (stage.now, stage.then)] == [None] * 8


def test_closing_removes_its_hooks_and_the_network_is_as_before():
    model = small("test_resnet").train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    term = create(plain(attention=True), start_of(model))
    assert len(list(hooks(model))) == 4
    term.close()
    assert not list(hooks(model))
    assert model.training
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in state.items())


def test_two_made_from_the_same_start_are_equal():
    model = small("test_resnet")
    start = start_of(model)
    first, second = create(plain(attention=True), start), create(plain(attention=True), start)
    for one, other in zip(first.held, second.held, strict=True):
        assert torch.equal(one.attention, other.attention)


def test_attention_is_that_of_the_first_training_images_and_no_more_are_loaded():
    model = small("test_resnet").eval()
    loaded: list[int] = []

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for number in range(9):
            loaded.append(number)
            yield images(2, seed=number), labels(2)

    create(plain(attention=True, attention_images=3), start_of(model, batches=batches()))
    assert loaded == [0, 1]


def test_it_goes_together_with_another_term():
    model = small("test_resnet").eval()
    start = start_of(model)
    other = bss.create(settings(eta=1.0, smallest=1), start)
    term = create(plain(), start)
    drift(model)
    alone = create(plain(), start)
    assert step(model, term).item() > 0
    assert other.tap.take() is not None  # of the network itself, and not of the source's copy
    assert step(model, alone).item() == 0
    alone.close()
    term.close()
    other.close()
    assert not list(hooks(model))


def test_a_source_classifier_beside_the_network_does_not_matter():
    model = small("test_resnet").eval()
    with_source_classifier(model)
    assert step(model, create(plain(), start_of(model))).item() == 0


def test_a_network_whose_stages_have_no_single_map_is_refused():
    model = small("test_resnet")
    start = start_of(model)

    class Pair(nn.Module):
        def forward(self, value: Tensor) -> tuple[Tensor, Tensor]:
            return value, value

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer1, self.fc = Pair(), nn.Linear(3, len(CLASSES))

        def forward(self, batch: Tensor) -> Tensor:
            return self.fc(self.layer1(batch)[0].mean(dim=(2, 3)))

    network = start.__class__(**{**start.__dict__, "model": Network()})
    with pytest.raises(ValueError, match=r"^strategy=some: no stage that it holds .*; use strategy=l2_sp"):
        create(plain(), network)
