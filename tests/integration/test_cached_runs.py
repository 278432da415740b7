"""Runs that train on stored activations end as runs that compute them anew, and never use what is not theirs."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import pytorch_lightning as pl
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_runs import SIZE, configured, make_images, make_weights, moved, state_of
from torch import Tensor

from thawlab.backbones import freezing
from thawlab.config.schema import Config, ConfigError
from thawlab.data.samplers import batch_sizes
from thawlab.training import fit as fitting
from thawlab.training.cache.feature_cache import FeatureCache
from thawlab.training.events import Events
from thawlab.training.feature_steps import SeveralSteps
from thawlab.training.fit import Fitted, fit
from thawlab.training.preparation import Prepared, prepare
from thawlab.training.trainer import CheckpointMetadata

count_steps = SeveralSteps.count_steps
BACKBONES = {
    "test_resnet": {},
    "tf_efficientnet_lite0": {},
    "test_vit": {"img_size": SIZE},
    "test_convnext": {},
    "hrnet_w18_small": {},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    return {name: make_weights(folder / f"{name}.safetensors", name, **options) for name, options in BACKBONES.items()}


@pytest.fixture
def make(images: Path, weights: dict[str, Path], tmp_path: Path) -> Callable[..., Config]:
    """The configuration of a run; its cache lies in the test's folder, and is switched on unless it says `off`."""

    def config(*arguments: str, backbone: str = "test_resnet", root: Path | None = None, **cache: object) -> Config:
        made = configured(
            root or images,
            f"backbone={backbone}",
            f"backbone.checkpoint_path={weights[backbone]}",
            "epochs=2",
            "augment=none",
            "optimizer=sgd",  # AdamW's first steps turn a last bit of difference into a whole one
            "optimizer.lr=0.01",
            *arguments,
        )
        cached = {"name": "auto", "dir": str(tmp_path / "cache"), **cache}
        return made.model_copy(update={"cache": made.cache.model_copy(update=cached)})

    return config


class Notes(Events):
    """Writes down what the user is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def trained(
    config: Config, folder: Path, resume: bool = False, events: Events | None = None
) -> tuple[Prepared, Fitted, FeatureCache]:
    prepared = prepare(config)
    cache = FeatureCache(config, prepared, events)
    return prepared, fit(config, prepared, folder, cache=cache, resume=resume), cache


def assert_equal(one: Prepared, other: Prepared, **tolerance: float) -> None:
    """Equal networks; bit for bit unless a tolerance is given."""
    first, second = state_of(one), state_of(other)
    if not tolerance:
        assert moved(first, second) == set()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], **{"rtol": 0.0, "atol": 0.0, **tolerance}, msg=name)


def with_steps(config: Config, steps: int) -> Config:
    """With at least so many steps, for which an epoch makes several passes over the images."""
    return config.model_copy(update={"trainer": config.trainer.model_copy(update={"min_steps": steps})})


@pytest.mark.parametrize("depth", ["stem", "1", "all"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_cached_run_ends_as_an_uncached_one(backbone, depth, make, tmp_path):
    if (backbone, depth) == ("test_convnext", "stem"):
        depth = "2"
    plain, one, _ = trained(make(f"freeze={depth}", backbone=backbone, name="off"), tmp_path / "plain")
    cached, other, cache = trained(make(f"freeze={depth}", backbone=backbone, name="require"), tmp_path / "cached")
    assert (cache.totals.filled, cache.totals.hits) == (2, 0)
    # Activations of other batch sizes may differ in the last bit.
    assert_equal(plain, cached, rtol=1e-4, atol=1e-5)
    assert one.best.accuracy == other.best.accuracy
    assert one.audited == other.audited > 0


@pytest.mark.parametrize(
    "strategy",
    [
        ["strategy=gradual", "freeze=1", "strategy.epochs_per_phase=1", "epochs=4"],
        ["strategy=lp_ft", "freeze=1", "epochs=3"],
        ["strategy=freeze_unfreeze", "epochs=3"],
        ["strategy=surgical", "strategy.stage=2"],
        ["strategy=linear_probe", "strategy.solver=lbfgs"],
        ["strategy=lora", "freeze=1"],
        ["strategy=bss", "freeze=1"],
        ["strategy=auto_rgn", "freeze=1"],
        ["strategy=layer_decay", "freeze=2", "bn=eval"],
        ["strategy=finetune", "freeze=1", "trainer.ema=0.5"],
        ["strategy=finetune", "freeze=1", "trainer.precision=bf16"],
    ],
    ids=" ".join,
)
def test_every_phase_goes_on_from_its_own_depth(strategy, make, tmp_path):
    plain, _, _ = trained(make(*strategy, name="off"), tmp_path / "plain")
    cached, _, cache = trained(make(*strategy, name="require"), tmp_path / "cached")
    assert cache.totals.filled >= 2
    tolerance = {"rtol": 0.1, "atol": 0.02} if "trainer.precision=bf16" in strategy else {"rtol": 1e-4, "atol": 1e-5}
    assert_equal(plain, cached, **tolerance)


def test_what_lies_above_the_cut_shares_the_entries_below_it(make, tmp_path):
    trained(make("freeze=2"), tmp_path / "first")
    changes = (
        ["seed=5", "freeze=2"],
        ["optimizer.lr=0.1", "label_smoothing=0", "optimizer.weight_decay=0", "freeze=2"],
        ["strategy=surgical", "strategy.stage=3"],
        ["strategy=layer_decay", "freeze=2", "epochs=3", "batch_size=4"],
    )
    for number, settings in enumerate(changes):
        _, _, cache = trained(make(*settings), tmp_path / str(number))
        assert (cache.totals.hits, cache.totals.filled) == (2, 0), settings


def test_other_weights_images_depths_sizes_and_precisions_are_other_entries(make, weights, images, tmp_path):
    trained(make("freeze=1"), tmp_path / "first")
    other = make_weights(tmp_path / "other.safetensors", "test_resnet")
    state = load_file(other)
    first = next(name for name in state if name.endswith("weight"))
    state[first][0].add_(1e-3)
    save_file(state, other)
    for number, settings in enumerate(
        (
            ["freeze=2"],
            ["freeze=1", f"backbone.checkpoint_path={other}"],
            ["freeze=1", "image_size=48"],
            ["freeze=1", "trainer.precision=bf16"],
            ["freeze=1", "trainer.channels_last=true"],
        )
    ):
        _, _, cache = trained(make(*settings), tmp_path / str(number))
        assert (cache.totals.hits, cache.totals.filled) == (0, 2), settings


def test_images_that_changed_under_the_same_names_are_computed_anew(make, tmp_path):
    root = make_images(tmp_path / "images")
    trained(make("freeze=1", root=root), tmp_path / "before")
    changed = root / "train" / "dark" / "0.png"
    Image.fromarray(255 - np.asarray(Image.open(changed))).save(changed)
    plain, _, _ = trained(make("freeze=1", root=root, name="off"), tmp_path / "plain")
    cached, _, cache = trained(make("freeze=1", root=root), tmp_path / "after")
    assert (cache.totals.hits, cache.totals.filled) == (0, 2)
    assert_equal(plain, cached, rtol=1e-4, atol=1e-5)


def test_augmentation_is_kept_as_one_view_for_each_epoch_if_one_asks_for_all(make, tmp_path):
    config = make("freeze=1", "augment=light", "epochs=3", views="all")
    prepared = prepare(config)
    cache = FeatureCache(config, prepared)
    freezing.train_only(prepared.network.model, prepared.phases[0].parameters)
    cached = cache.for_phase(0, prepared.loaders, torch.device("cpu"), torch.no_grad)
    assert cached is not None
    train = cached.features["train"]
    assert train.views == 3
    epochs = [train[(epoch, 4)][0][0] for epoch in range(4)]
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[1], epochs[2])
    assert torch.equal(epochs[0], epochs[3])  # in turn
    other_seed = make("freeze=1", "augment=light", "epochs=3", "seed=9", views="all")
    _, _, second = trained(other_seed, tmp_path / "seed")
    assert (second.totals.hits, second.totals.filled) == (2, 0)


def test_few_views_serve_runs_of_any_length_and_the_run_says_how_many(make, tmp_path):
    said = Notes()
    _, _, first = trained(make("freeze=1", "augment=light", "epochs=3"), tmp_path / "short", events=said)
    assert (first.totals.hits, first.totals.filled) == (0, 2)
    assert [each for each in said.said if each.startswith("2 random views of each training image are stored for 3")]
    _, _, longer = trained(make("freeze=1", "augment=light", "epochs=4"), tmp_path / "long")
    assert (longer.totals.hits, longer.totals.filled) == (2, 0)


def test_a_run_of_two_passes_over_random_changes_stores_none(make, tmp_path):
    said = Notes()
    _, _, cache = trained(make("freeze=1", "augment=light"), tmp_path / "run", events=said)
    assert (cache.totals.hits, cache.totals.filled) == (0, 0)
    assert [each for each in said.said if "runs uncached: a random view of each training image" in each]


def test_a_solved_head_is_cached_whatever_changes_one_asks_for(make, tmp_path):
    solved = ["strategy=linear_probe", "augment=strong"]
    _, _, cache = trained(make(*solved), tmp_path / "run")
    assert (cache.totals.hits, cache.totals.filled) == (0, 2)


def test_one_view_is_the_image_itself(make, tmp_path):
    trained(make("freeze=1", "augment=none"), tmp_path / "plain")
    _, _, cache = trained(make("freeze=1", "augment=light", views=1), tmp_path / "one")
    assert (cache.totals.hits, cache.totals.filled) == (2, 0)


@pytest.mark.parametrize(
    ("settings", "cache", "why"),
    [
        (["augment.mixup=0.2"], {}, "mixup"),
        (["strategy=lwf"], {}, "strategy=lwf"),
        (["augment=light", "epochs=50"], {"max_gb": 0.0001}, "random views"),
        ([], {"max_gb": 0.00001}, "max_gb"),
    ],
    ids=["mixup", "lwf", "views", "budget"],
)
def test_what_cannot_be_cached_runs_uncached_and_says_why(settings, cache, why, make, tmp_path):
    config = make("freeze=1", *settings, **cache)
    config = config.model_copy(update={"epochs": min(config.epochs, 50)})
    notes = Notes()
    used = FeatureCache(config, prepare(config), notes)
    trainer = pl.Trainer(accelerator="cpu", logger=False)
    loaders = used.prepared.loaders
    freezing.train_only(used.prepared.network.model, used.prepared.phases[0].parameters)
    for _ in range(2):
        found = used.for_phase(0, loaders, torch.device("cpu"), trainer.precision_plugin.forward_context)
        assert found is None
    (told,) = notes.said
    assert "runs uncached" in told
    assert why in told
    required = config.model_copy(update={"cache": config.cache.model_copy(update={"name": "require"})})
    with pytest.raises(ConfigError, match=why):
        FeatureCache(required, used.prepared).for_phase(
            0, loaders, torch.device("cpu"), trainer.precision_plugin.forward_context
        )


def test_a_cache_folder_that_cannot_be_written_leaves_the_run_uncached(make, tmp_path):
    (tmp_path / "file").write_text("in the way")
    notes = Notes()
    plain, _, _ = trained(make("freeze=1", name="off"), tmp_path / "plain")
    no_folder = make("freeze=1", dir=str(tmp_path / "file" / "cache"))
    cached, _, cache = trained(no_folder, tmp_path / "cached", events=notes)
    assert (cache.totals.hits, cache.totals.filled) == (0, 0)
    assert any("runs uncached" in each for each in notes.said)
    assert_equal(plain, cached)


def test_a_flipped_bit_is_noticed_and_computed_anew(make, tmp_path):
    plain, _, _ = trained(make("freeze=1"), tmp_path / "plain")
    stored = max((tmp_path / "cache").rglob("*.*"), key=lambda path: path.stat().st_size)
    content = bytearray(stored.read_bytes())
    content[len(content) // 2] ^= 1
    stored.write_bytes(content)
    with pytest.warns(UserWarning, match="anew"):
        cached, _, cache = trained(make("freeze=1"), tmp_path / "cached")
    assert (cache.totals.hits, cache.totals.filled) == (1, 1)
    assert_equal(plain, cached)


def test_one_pass_fills_the_depths_of_a_sweep(make, tmp_path):
    _, _, first = trained(make("freeze=1", prefill=[2, "all"]), tmp_path / "first")
    assert first.totals.filled == 6
    assert first.totals.images == len(first.prepared.data.train) + len(first.prepared.data.val)
    for depth in ("1", "2", "all"):
        plain, _, _ = trained(make(f"freeze={depth}", name="off"), tmp_path / f"plain {depth}")
        cached, _, cache = trained(make(f"freeze={depth}"), tmp_path / depth)
        assert (cache.totals.hits, cache.totals.filled) == (2, 0), depth
        assert_equal(plain, cached, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("dtype", "rounding"), [("float16", 2**-10), ("bfloat16", 2**-7)])
def test_half_the_bytes_by_setting(dtype, rounding, make):
    values = {}
    for stored in ("auto", dtype):
        config = make("freeze=2", dtype=stored)
        prepared = prepare(config)
        freezing.train_only(prepared.network.model, prepared.phases[0].parameters)
        cache = FeatureCache(config, prepared)
        cached = cache.for_phase(0, prepared.loaders, torch.device("cpu"), torch.no_grad)
        assert cached is not None
        values[stored] = cached.features["train"][(0, 3)][0][0]
        assert cached.features["train"].values[0].element_size() == (4 if stored == "auto" else 2)
    assert values[dtype].dtype == torch.float32
    torch.testing.assert_close(values[dtype], values["auto"], rtol=rounding, atol=1e-6)
    assert not torch.equal(values[dtype], values["auto"])


@pytest.mark.parametrize(
    ("backbone", "settings"),
    [
        ("test_resnet", ["freeze=all"]),
        ("test_resnet", ["freeze=1", "trainer.clip=0.1", "scheduler=onecycle"]),
        ("test_vit", ["freeze=2", "optimizer=adamw", "label_smoothing=0.2", "batch_size=7"]),
        ("test_convnext", ["freeze=1", "augment=light", "trainer.precision=bf16"]),
        ("test_resnet", ["freeze=2", "optimizer=lamb"]),
        ("test_resnet", ["freeze=2", "optimizer=muon", "batch_size=5"]),
        ("test_resnet", ["freeze=1", "batch_size=17"]),  # a single image is left over
    ],
    ids=lambda given: given if isinstance(given, str) else " ".join(given),
)
def test_several_steps_at_once_are_those_steps(backbone, settings, make, tmp_path, monkeypatch):
    config = make(*settings, backbone=backbone, name="require")
    counted = []
    monkeypatch.setattr(SeveralSteps, "count_steps", lambda self: counted.append(count_steps(self)) or counted[-1])
    together, one, _ = trained(config, tmp_path / "together")
    assert counted == [2 * len(batch_sizes(18, config.batch_size))]
    monkeypatch.setattr(fitting, "steps_at_once", lambda *_: 1)
    apart, other, _ = trained(config, tmp_path / "apart")
    assert len(counted) == 1
    assert_equal(together, apart)
    assert one.best.accuracy == other.best.accuracy
    last = [
        torch.load(folder / "checkpoints/0_finetune/last.ckpt")
        for folder in (tmp_path / "together", tmp_path / "apart")
    ]
    assert last[0]["global_step"] == last[1]["global_step"] == counted[0]
    assert last[0]["lr_schedulers"][0]["_last_lr"] == last[1]["lr_schedulers"][0]["_last_lr"]


def test_several_steps_at_once_are_those_steps_over_several_passes_too(make, tmp_path, monkeypatch):
    config = with_steps(make("freeze=all", name="require"), 20)
    together, one, _ = trained(config, tmp_path / "together")
    monkeypatch.setattr(fitting, "steps_at_once", lambda *_: 1)
    apart, other, _ = trained(config, tmp_path / "apart")
    assert_equal(together, apart)
    assert one.best.accuracy == other.best.accuracy
    last = [torch.load(tmp_path / name / "checkpoints/0_finetune/last.ckpt") for name in ("together", "apart")]
    assert last[0]["global_step"] == last[1]["global_step"] == 2 * len(batch_sizes(5 * 18, config.batch_size))


@pytest.mark.parametrize("min_steps", [0, 24])
def test_a_resumed_run_goes_on_from_the_same_activations(min_steps, make, tmp_path, monkeypatch):
    config = with_steps(make("freeze=1", "augment=light", "epochs=3"), min_steps)
    whole, _, _ = trained(config, tmp_path / "whole")

    class StoppedError(Exception):
        pass

    def stop(self: CheckpointMetadata, trainer: pl.Trainer, module: object, batch: object, index: int) -> None:
        if trainer.current_epoch == 2:
            raise StoppedError

    with monkeypatch.context() as patched:
        patched.setattr(CheckpointMetadata, "on_train_batch_start", stop, raising=False)
        with pytest.raises(StoppedError):
            trained(config, tmp_path / "stopped")
    shutil.rmtree(tmp_path / "cache")  # evicted meanwhile
    resumed, _, cache = trained(config, tmp_path / "stopped", resume=True)
    assert cache.totals.filled == 2
    assert_equal(whole, resumed)


def test_the_test_images_give_the_same_logits(make, tmp_path):
    config = make("freeze=2")
    prepared, _, cache = trained(config, tmp_path / "run")
    cached = cache.for_test(torch.device("cpu"), torch.no_grad)
    assert cached is not None
    model = prepared.network.model.eval()
    for images, _, positions in prepared.loaders.test_dataloader():
        values = cached.features["test"].__getitems__(positions.tolist())[0]
        with torch.no_grad():
            found, expected = cached.cut.suffix(values), model(images)
        assert isinstance(found, Tensor)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
