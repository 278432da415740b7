"""A network cut at the freeze boundary computes from stored activations what the whole network computes, to the bit."""

import copy
import io
import pickle

import pytest

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import timm
import torch
from torch import Tensor, nn

from thawlab.backbones.cut.find import Cut, CutRefused, find_cut, prefixes
from thawlab.backbones.freezing import eval_frozen, train_only
from thawlab.backbones.stages import depth_to_count, stages

SWIN = {"embed_dim": 16, "depths": (1, 2, 1), "num_heads": (1, 2, 4), "window_size": 4, "img_size": 32}
# architecture: (image size, settings)
NETWORKS = {
    "test_resnet": (32, {}),
    "tf_efficientnet_lite0": (32, {"drop_rate": 0.2, "drop_path_rate": 0.1}),
    "test_vit": (32, {"img_size": 32, "drop_path_rate": 0.1}),
    "test_convnext": (32, {}),
    "hrnet_w18_small": (32, {}),
    "swin_tiny_patch4_window7_224": (32, SWIN),
    "levit_128s": (64, {"img_size": 64}),
}
DEPTHS = (1, 0.5, "all")


def network(name: str, depth: int | float | str, **settings) -> tuple[nn.Module, list[str], Tensor]:
    """A network frozen as training has it, the names of what is frozen, and eight images."""
    size, own = NETWORKS[name]
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, **(own | settings))
    ruler = stages(model)
    prefix = [parameter for stage in ruler[: depth_to_count(depth, ruler)] for parameter in stage.parameters]
    return *frozen(model, prefix), torch.randn(8, 3, size, size)


def frozen(model: nn.Module, prefix: list[str]) -> tuple[nn.Module, list[str]]:
    train_only(model, {name for name, _ in model.named_parameters()} - {*prefix})
    eval_frozen(model.train())
    return model, prefix


def step(model: nn.Module, run) -> dict[str, Tensor]:
    """Gradients, logits and what has moved after a training step's forward and backward pass."""
    model.zero_grad(set_to_none=True)
    torch.manual_seed(3)
    logits = run()
    nn.functional.cross_entropy(logits, torch.arange(len(logits)) % 5).backward()
    gradients = {f"d {name}": each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
    return {"logits": logits.detach(), **gradients, **{name: each.clone() for name, each in model.named_buffers()}}


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name, value in one.items() if not torch.equal(value, other[name])] == []


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_from_the_cut_is_the_step_of_the_whole_network_to_the_bit(name, depth):
    model, prefix, images = network(name, depth)
    cut = find_cut(model, prefix, images)
    whole = copy.deepcopy(model)

    batch = images[1:7]  # a size that the cut has not seen
    features = cut.prefix(batch)

    assert [tuple(each.shape) for each in features] == [(6, *feature.shape) for feature in cut.features]
    assert [each.dtype for each in features] == [feature.dtype for feature in cut.features]
    assert not any(each.requires_grad for each in features)
    assert_equal(step(model, lambda: cut.suffix(features)), step(whole, lambda: whole(batch)))
    model.eval()
    whole.eval()
    with torch.inference_mode():
        assert torch.equal(cut.suffix(cut.prefix(batch)), whole(batch))
    assert cut.difference == 0


@pytest.mark.parametrize("name", ["test_resnet", "levit_128s"])
def test_the_network_is_left_as_it_was(name):
    model, prefix, images = network(name, 1)
    step(model, lambda: model(images))
    before = copy.deepcopy(model)
    gradients = {parameter: each.grad for parameter, each in model.named_parameters()}
    random = torch.get_rng_state()

    cut = find_cut(model, prefix, images)
    features = cut.prefix(images)

    assert torch.equal(torch.get_rng_state(), random)
    assert_equal(before.state_dict(), model.state_dict())
    cut.suffix(features)
    for (path, one), (_, other) in zip(model.named_modules(), before.named_modules(), strict=True):
        assert one.training == other.training, path
        assert "forward" not in vars(one)
        assert vars(one).keys() == vars(other).keys()
        assert not one._forward_hooks
        assert not one._forward_pre_hooks
    assert all(each.grad is gradients[parameter] for parameter, each in model.named_parameters())
    assert [each.requires_grad for each in model.parameters()] == [each.requires_grad for each in before.parameters()]
    copy.deepcopy(model)
    pickle.dumps(model)
    torch.save(model.state_dict(), io.BytesIO())


def test_a_refused_network_is_left_as_it_was_too():
    model, prefix = frozen(AlsoLooksAtTheImages(), ["body.weight", "body.bias"])
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(CutRefused):
        find_cut(model, prefix, torch.randn(8, 3, 8, 8))
    assert_equal(before, model.state_dict())
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_cut_can_be_copied_along_with_its_network():
    model, prefix, images = network("test_resnet", 1)
    cut = find_cut(model, prefix, images)
    twin, twin_cut = copy.deepcopy((model, cut))
    assert twin_cut.model is twin
    assert torch.equal(twin_cut.suffix(twin_cut.prefix(images)), cut.suffix(cut.prefix(images)))
    assert isinstance(pickle.loads(pickle.dumps(cut)), Cut)


@pytest.mark.parametrize(
    ("name", "depth", "features"),
    [
        ("test_resnet", 1, "layer1 32×8×8 float32"),
        ("test_resnet", "all", "global_pool 96 float32"),
        ("tf_efficientnet_lite0", "all", "global_pool 1280 float32"),
        ("test_vit", "all", "fc_norm 64 float32"),  # the dropout that follows is on in training
        ("hrnet_w18_small", 1, "transition1.0 16×8×8 float32, transition1.1 32×4×4 float32"),
    ],
)
def test_the_cut_is_what_the_rest_works_with_and_no_more(name, depth, features):
    model, prefix, images = network(name, depth, **({"drop_rate": 0.1} if name == "test_vit" else {}))
    cut = find_cut(model, prefix, images)
    assert repr(cut) == f"Cut({features})"


def test_several_depths_take_one_pass():
    model, _, images = network("hrnet_w18_small", "all")
    ruler = stages(model)
    cuts = []
    for depth in (3, 1, "all"):
        groups = ruler[: depth_to_count(depth, ruler)]
        cuts.append(find_cut(*frozen(model, [name for stage in groups for name in stage.parameters]), images))
    seen = []
    handle = model.global_pool.register_forward_hook(lambda *_: seen.append(1))
    features = prefixes(cuts, images)
    handle.remove()

    assert len(seen) == 1
    for cut, each in zip(cuts, features, strict=True):
        for one, other in zip(each, cut.prefix(images), strict=True):
            assert torch.equal(one, other)


def test_a_depth_beyond_what_is_frozen_counts_as_frozen():
    model, _, images = network("test_resnet", 1, drop_path_rate=0.1)
    deep = [name for name, _ in model.named_parameters() if not name.startswith("fc.")]
    features = find_cut(model, deep, images).prefix(images)
    assert torch.equal(model.eval().forward_head(model.forward_features(images), pre_logits=True), features[0])


def test_the_pass_of_the_prefix_ends_at_the_cut():
    model, prefix, images = network("test_resnet", 1)
    cut = find_cut(model, prefix, images)
    model.layer2.register_forward_hook(lambda *_: pytest.fail("went on"))
    cut.prefix(images)


def test_channels_last_activations_are_stored_and_handed_back_as_they_lie_in_memory():
    model, prefix, images = network("test_resnet", 1)
    model, images = model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    cut = find_cut(model, prefix, images)
    seen: list[Tensor] = []
    model.layer2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    features = cut.prefix(images)
    logits = cut.suffix(features)

    assert cut.features[0].shape == (8, 8, 32)
    assert features[0].is_contiguous()
    assert seen[0].shape == (8, 32, 8, 8)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert seen[0].data_ptr() == features[0].data_ptr()  # without a copy
    torch.manual_seed(0)
    assert torch.equal(logits, model(images))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "hrnet_w18_small"])
def test_under_autocast_the_cut_is_what_the_network_makes_there(name):
    model, prefix, images = network(name, 1)
    with torch.autocast("cpu", torch.bfloat16):
        cut = find_cut(model, prefix, images)
    with torch.autocast("cpu", torch.bfloat16):
        features = cut.prefix(images)
    assert [each.dtype for each in features] == [each.dtype for each in cut.features]
    whole = copy.deepcopy(model)
    with torch.autocast("cpu", torch.bfloat16):
        ours = step(model, lambda: cut.suffix(features).float())
    with torch.autocast("cpu", torch.bfloat16):
        assert_equal(ours, step(whole, lambda: whole(images).float()))


def test_the_state_of_a_prefix_holds_all_that_its_features_depend_on():
    model, prefix, images = network("test_vit", 1)
    state = find_cut(model, prefix, images).state()
    assert set(state) == {*prefix}
    assert {"cls_token", "pos_embed"} <= set(state)

    model, prefix, images = network("test_resnet", 1)
    state = find_cut(model, prefix, images).state()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items() if name in state)
    assert {"bn1.running_mean", "layer1.0.bn1.running_var"} <= set(state)
    assert not any(name.startswith(("layer2", "layer4", "fc")) for name in state)


class Small(nn.Module):
    """`body`, which stays as it is, and a head of linear layers."""

    def __init__(self, body: nn.Module | None = None):
        super().__init__()
        torch.manual_seed(0)
        self.body = body or nn.Conv2d(3, 4, 3)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pool(self.body(images)).flatten(1))

    @property
    def prefix(self) -> list[str]:
        return [name for name, _ in self.named_parameters() if name.startswith("body.")]


class AlsoLooksAtTheImages(Small):
    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pool(self.body(images)).flatten(1) + images.mean())


class DrawsBeforeTheBody(Small):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images + torch.rand(1))


class LooksAtItsNeighbours(Small):
    class Body(nn.Conv2d):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images - images.mean(0))

    def __init__(self):
        super().__init__(self.Body(3, 4, 3))


class MeansOfTheBatch(Small):
    class Body(nn.Conv2d):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).mean(0, keepdim=True)

    def __init__(self):
        super().__init__(self.Body(3, 4, 3))


class ActsOtherwiseInTraining(Small):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images * 2 if self.training else images)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (AlsoLooksAtTheImages(), "the logits from the cut differ by "),
        (DrawsBeforeTheBody(), "the logits from the cut differ by "),
        (ActsOtherwiseInTraining(), "the logits from the cut differ by "),
        (LooksAtItsNeighbours(), "the features of an image change with its batch by "),
        (MeansOfTheBatch(), "what body returns depends on the images and is not told apart by them"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_network_that_is_not_the_same_from_the_cut_is_refused(model, reason):
    frozen(model, model.prefix)
    with pytest.raises(CutRefused, match=reason):
        find_cut(model, model.prefix, torch.randn(8, 3, 8, 8) + 1)


def test_even_a_head_of_zeros_does_not_hide_a_difference():
    model = AlsoLooksAtTheImages()
    nn.init.zeros_(model.head.weight)
    frozen(model, model.prefix)
    with pytest.raises(CutRefused, match="the gradients from the cut differ"):
        find_cut(model, model.prefix, torch.randn(8, 3, 8, 8))


def test_what_cannot_be_cut_is_refused():
    model, images = Small(), torch.randn(8, 3, 8, 8)
    with pytest.raises(
        CutRefused, match="no module whose parameters all stay as they are comes before what is trained"
    ):
        find_cut(model, [], images)
    with pytest.raises(CutRefused, match="no module whose parameters all stay"):
        find_cut(model, ["head.weight", "head.bias"], images)
    with pytest.raises(CutRefused, match="nothing of the network is trained"):
        find_cut(model, [name for name, _ in model.named_parameters()], images)
    with pytest.raises(ValueError, match="4 images are too few"):
        find_cut(model, model.prefix, images[:4])
    with pytest.raises(ValueError, match="not parameters of the model: tail"):
        find_cut(model, ["tail"], images)


def check(model: Small, *, pool: str = "pool 4×1×1") -> Cut:
    """The cut of a small network, after a step from it has been compared with one of the whole."""
    frozen(model, model.prefix)
    images = torch.randn(8, 3, 8, 8)
    cut, whole = find_cut(model, model.prefix, images), copy.deepcopy(model)
    features = cut.prefix(images)
    kept = [each.clone() for each in features]
    assert_equal(step(model, lambda: cut.suffix(features)), step(whole, lambda: whole(images)))
    assert all(torch.equal(*pair) for pair in zip(features, kept, strict=True))
    assert repr(cut) == f"Cut({pool} float32)"
    return cut


class SharesALayer(Small):
    def forward(self, images: Tensor) -> Tensor:
        x = self.body(images)
        return self.head(self.pool(self.body(nn.functional.pad(x, (1, 1, 1, 1)) * self.head.weight.mean())).flatten(1))


def test_a_frozen_layer_that_is_used_again_above_the_cut_runs_there():
    model = SharesALayer(nn.Conv2d(3, 3, 3))
    model.head = nn.Linear(3, 5)
    check(model, pool="body 3×6×6")


class ReturnsLists(Small):
    class Body(nn.Conv2d):
        def forward(self, images: Tensor) -> list[Tensor | tuple[int, int]]:
            x = super().forward(images)
            return [x, x.amax((2, 3)), x.sum(1), (6, 6)]

    def __init__(self):
        super().__init__(self.Body(3, 4, 3))

    def forward(self, images: Tensor) -> Tensor:
        _, x, y, size = self.body(images)
        return self.head(x) + y.mean((1, 2))[:, None] * self.head.weight.mean() * size[0]


def test_of_a_list_only_what_is_used_is_kept():
    check(ReturnsLists(), pool="body[1] 4 float32, body[2] 6×6")


class TellsConstants(Small):
    class Body(nn.Conv2d):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return super().forward(images), self.weight.mean((1, 2, 3))

    def __init__(self):
        super().__init__(self.Body(3, 4, 3))

    def forward(self, images: Tensor) -> Tensor:
        x, shift = self.body(images)
        return self.head(x.mean((2, 3)) + shift)


def test_what_is_the_same_for_all_images_is_not_stored():
    check(TellsConstants(), pool="body[0] 4×6×6")


class Windows(Small):
    class Body(nn.Conv2d):
        def forward(self, images: Tensor) -> Tensor:
            x = super().forward(images)  # (B, 4, 6, 6), then four windows of each image one after the other
            return x.unfold(2, 3, 3).unfold(3, 3, 3).permute(0, 2, 3, 1, 4, 5).reshape(-1, 4, 3, 3)

    def __init__(self):
        super().__init__(self.Body(3, 4, 3))

    def forward(self, images: Tensor) -> Tensor:
        x = self.body(images).mean((2, 3))
        return self.head(x.view(-1, 4, 4).amax(1))


def test_several_rows_of_an_image_are_stored_together():
    check(Windows(), pool="body 4×4×3×3")


class SequenceFirst(Small):
    class Body(nn.Conv2d):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).flatten(2).permute(2, 0, 1)  # (36, B, 4)

    def __init__(self):
        super().__init__(self.Body(3, 4, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images).mean(0))


def test_images_may_lie_along_another_axis():
    check(SequenceFirst(), pool="body 4×36")


class WritesToIt(Small):
    def forward(self, images: Tensor) -> Tensor:
        x = self.body(images)
        return self.head(x.mul_(self.head.weight.mean()).relu_().mean((2, 3)))


def test_features_are_not_written_to():
    cut = check(WritesToIt(), pool="body 4×6×6")
    assert cut.overwritten == {0}


class NeedsTheBatch(Small):
    def forward(self, images: Tensor) -> Tensor:
        tokens = torch.ones(len(images), 1)
        return self.head(torch.cat([self.body(images).mean((2, 3))[:, :3], tokens], 1))


def test_code_that_counts_images_before_the_cut_counts_them_right():
    check(NeedsTheBatch(), pool="body 4×6×6")


class LayerBetween(Small):
    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pool(self.layer(self.body(images))).flatten(1))


@pytest.mark.parametrize(
    ("layer", "feature"),
    [
        (nn.Dropout(0.5), "body 4×6×6"),
        (nn.Dropout(0.0), "pool 4×1×1"),
        (nn.Sequential(nn.Softplus(), nn.Dropout(0.5)), "layer.0 4×6×6"),
        (nn.BatchNorm2d(4, affine=False), "body 4×6×6"),
        (nn.ReLU(inplace=True), "pool 4×1×1"),
    ],
    ids=repr,
)
def test_what_acts_in_training_after_the_last_frozen_layer_is_left_to_training(layer, feature):
    check(LayerBetween(layer), pool=feature)


def test_a_dropout_inside_a_frozen_module_is_frozen_with_it():
    check(Small(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5))))
