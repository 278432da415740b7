import numpy as np
import pytest
import torch
from starts import images, labels
from torch import Tensor, nn

from small_fits import small
from thawlab.backbones.stages import stages
from thawlab.strategies.regularisers import channel_attention as measured
from thawlab.strategies.regularisers.channel_attention import channel_attention, channel_axis


class Chain(nn.Module):
    """Two convolutions of four channels each; with `join`, the second one's input comes back after it."""

    def __init__(self, join: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)
        self.join = join

    def forward(self, batch: Tensor) -> Tensor:
        early = self.first(batch).relu()
        late = self.second(early).relu()
        whole = torch.cat([late, self.first(batch).relu()], dim=2) if self.join else late
        return self.fc(whole.mean(dim=(2, 3)))


SIZES = {"first": (1, 4), "second": (1, 4)}


def cross_entropy(logits: np.ndarray, answers: np.ndarray) -> float:
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return -np.log(shares[np.arange(len(answers)), answers]).mean()


def test_attention_is_the_softmax_of_how_the_loss_rises_without_each_channel():
    model = Chain().eval()
    found = channel_attention(model, SIZES, images(6), labels(6))["second"]
    with torch.no_grad():
        late = model.second(model.first(images(6)).relu()).relu().mean(dim=(2, 3)).double().numpy()
    weight, bias = (value.detach().double().numpy() for value in (model.fc.weight, model.fc.bias))
    answers = labels(6).numpy()
    whole = cross_entropy(late @ weight.T + bias, answers)
    rises = np.array([cross_entropy(late * (np.arange(4) != c) @ weight.T + bias, answers) - whole for c in range(4)])
    powers = np.exp((rises - rises.mean()) / rises.std() / 5)
    np.testing.assert_allclose(found.numpy(), powers / powers.sum(), rtol=1e-4)


def test_a_channel_that_the_classifier_ignores_has_the_least_where_the_others_help():
    model = Chain().eval()
    with torch.no_grad():
        model.second.weight.zero_()
        model.second.bias.fill_(1.0)  # four channels that are all 1
        model.fc.weight.copy_(torch.tensor([[2.0, 1.0, 0.0, 3.0], [0.0] * 4, [0.0] * 4]))
    found = channel_attention(model, SIZES, images(4), torch.zeros(4, dtype=torch.long))["second"]
    assert found.argsort().tolist() == [2, 1, 0, 3]


@pytest.mark.parametrize("rows", [1, 8, 256])
def test_how_many_channels_go_through_at_once_does_not_matter(rows: int, monkeypatch: pytest.MonkeyPatch):
    model = small("test_efficientnet").eval()
    torch.nn.init.normal_(model.classifier.weight)  # type: ignore[union-attr,arg-type]
    path = stages(model)[2].name
    with torch.no_grad():
        taken: list[Tensor] = []
        hook = model.get_submodule(path).register_forward_hook(lambda m, a, output: taken.append(output))
        model(images(5))
        hook.remove()
    sizes = {path: (1, taken[0].shape[1])}
    expected = channel_attention(model, sizes, images(5), labels(5))[path]
    monkeypatch.setattr(measured, "_ROWS", rows)
    monkeypatch.setattr(measured, "_IMAGES", 2)
    torch.testing.assert_close(channel_attention(model, sizes, images(5), labels(5))[path], expected)
    assert expected.sum().item() == pytest.approx(1)
    assert expected.unique().numel() > 1


def test_networks_that_join_a_stage_with_earlier_outputs_go_through_channel_by_channel():
    joined = Chain(join=True).eval()
    passes: list[int] = []
    joined.fc.register_forward_hook(lambda m, a, output: passes.append(len(output)))
    found = channel_attention(joined, {"second": (1, 4)}, images(6), labels(6))["second"]
    assert passes == [6] * 4
    with torch.no_grad():
        early = joined.first(images(6)).relu()
        late = joined.second(early).relu()
    losses = []
    for channel in range(4):
        without = late.clone()
        without[:, channel] = 0
        logits = joined.fc(torch.cat([without, early], dim=2).mean(dim=(2, 3)))
        losses.append(torch.nn.functional.cross_entropy(logits, labels(6)).item())
    assert found.argsort().tolist() == np.argsort(losses).tolist()


def test_channels_of_which_none_matters_count_alike():
    model = Chain().eval()
    nn.init.zeros_(model.fc.weight)
    found = channel_attention(model, SIZES, images(4), labels(4))
    assert found["first"].tolist() == found["second"].tolist() == [0.25] * 4


def test_the_network_is_as_before_afterwards():
    model = Chain().eval()
    before = model(images(4))
    channel_attention(model, SIZES, images(4), labels(4))
    assert torch.equal(model(images(4)), before)


SWIN = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "window_size": 4}


@pytest.mark.parametrize(
    ("name", "options", "axes"),
    [
        ("test_resnet", {}, [1] * 4),
        ("test_efficientnet", {}, [1] * 5),
        ("test_convnext", {}, [1] * 4),
        ("test_vit", {}, [2] * 6),
        ("swin_tiny_patch4_window7_224", SWIN, [3] * 4),
    ],
)
def test_the_axis_of_the_channels_is_found(name: str, options: dict, axes: list[int]):
    model = small(name, **options).eval()
    maps: dict[str, Tensor] = {}
    for stage in stages(model)[1:]:
        module = model.get_submodule(stage.name)
        module.register_forward_hook(lambda m, a, output, path=stage.name: maps.update({path: output}))
    model(images(2))
    found = channel_axis(model, maps)
    assert list(found.values()) == axes
    assert [maps[path].shape[axis] for path, axis in found.items()] == _channels(model, list(maps))


def _channels(model: nn.Module, paths: list[str]) -> list[int]:
    """Of each stage: as long as its last norm's weight, or its last convolution's outputs."""
    modules = [[m for m in model.get_submodule(path).modules() if hasattr(m, "weight")] for path in paths]
    if "layers.0" in paths:  # a stage of Swin: as wide as its last linear layer
        modules = [[m for m in each if isinstance(m, nn.Linear)] for each in modules]
    return [each[-1].weight.shape[0] for each in modules]  # type: ignore[union-attr,index]
