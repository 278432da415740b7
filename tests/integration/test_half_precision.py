"""A cache that is filled in bfloat16: close to float32 or not used, told apart by its entries, and said."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import torch
from tiny_runs import SIZE, configured, make_weights, state_of

from thawlab.backbones import freezing
from thawlab.config.schema import Config
from thawlab.training.cache import boundary, half_precision
from thawlab.training.cache.feature_cache import Cached, FeatureCache
from thawlab.training.cache.half_precision import MOST, in_hardware
from thawlab.training.events import Events
from thawlab.training.fit import Fitted, fit
from thawlab.training.preparation import Prepared, prepare

BACKBONES = {"test_resnet": {}, "tf_efficientnet_lite0": {}, "test_vit": {"img_size": SIZE}, "test_convnext": {}}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    return {name: make_weights(folder / f"{name}.safetensors", name, **options) for name, options in BACKBONES.items()}


@pytest.fixture
def make(images: Path, weights: dict[str, Path], tmp_path: Path) -> Callable[..., Config]:
    def config(*arguments: str, backbone: str = "test_vit") -> Config:
        network = (f"backbone={backbone}", f"backbone.checkpoint_path={weights[backbone]}", "augment=none")
        return configured(
            images, *network, "epochs=2", "cache=require", f"cache.dir={tmp_path / 'cache'}", "freeze=1", *arguments
        )

    return config


class Notes(Events):
    """Writes down what the user is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def opened(config: Config) -> tuple[Cached, FeatureCache, list[str]]:
    """The stored activations of the first phase, the cache that has them, and what was said."""
    prepared, notes = prepare(config), Notes()
    freezing.train_only(prepared.network.model, prepared.phases[0].parameters)
    cache = FeatureCache(config, prepared, notes)
    found = cache.for_phase(0, prepared.loaders, CPU, torch.no_grad)
    assert found is not None
    return found, cache, notes.said


def trained(config: Config, folder: Path) -> tuple[Prepared, Fitted, FeatureCache]:
    prepared = prepare(config)
    cache = FeatureCache(config, prepared)
    return prepared, fit(config, prepared, folder, cache=cache), cache


def counts(cache: FeatureCache) -> tuple[int, int, int]:
    return cache.totals.hits, cache.totals.filled, cache.totals.half


@pytest.mark.parametrize(
    ("backbone", "layout"),
    [
        ("test_resnet", "true"),
        ("test_vit", "true"),
        ("test_convnext", "true"),
        ("test_convnext", "false"),
        pytest.param("tf_efficientnet_lite0", "true", marks=pytest.mark.slow),
    ],
)
def test_features_and_logits_of_both_precisions_are_close(backbone, layout, make):
    settings = ("freeze=all", f"trainer.channels_last={layout}")
    plain, _, _ = opened(make(*settings, backbone=backbone))
    half, cache, said = opened(make(*settings, "cache.compute=bfloat16", backbone=backbone))
    assert counts(cache) == (0, 2, 2)
    for name in ("train", "val"):
        one, other = (each.features[name] for each in (plain, half))
        (exact,), labels, _ = one.__getitems__(range(len(one)))
        (rounded,), others, _ = other.__getitems__(range(len(other)))
        assert torch.equal(labels, others)
        assert rounded.dtype == exact.dtype == torch.float32
        assert not torch.equal(exact, rounded)
        assert float((rounded - exact).norm() / (exact - exact.mean(0)).norm()) <= MOST
        with torch.no_grad():
            logits, found = plain.cut.suffix([exact]), half.cut.suffix([rounded])
        assert float((found - logits).norm() / (logits - logits.mean(0)).norm()) <= MOST
    assert "computed in bfloat16: features of 8 images differ by" in said[-1]


def test_networks_whose_results_are_bfloat16_take_half_the_space(make):
    plain, one, _ = opened(make("freeze=2", backbone="test_resnet"))
    half, other, _ = opened(make("freeze=2", "cache.compute=bfloat16", backbone="test_resnet"))
    assert [each.dtype for each in plain.features["train"].values] == [torch.float32]
    assert [each.dtype for each in half.features["train"].values] == [torch.bfloat16]
    assert other.totals.bytes < 0.6 * one.totals.bytes


def test_entries_of_the_two_precisions_are_told_apart(make, tmp_path):
    _, first, _ = opened(make())
    _, half, _ = opened(make("cache.compute=bfloat16"))
    _, rounded, _ = opened(make("cache.compute=bfloat16", "cache.dtype=float32"))
    _, again, _ = opened(make())
    _, other, _ = opened(make("cache.compute=bfloat16"))
    assert [counts(each) for each in (first, half, rounded)] == [(0, 2, 0), (0, 2, 2), (2, 0, 2)]
    assert [counts(each) for each in (again, other)] == [(2, 0, 0), (2, 0, 2)]
    found = [json.loads(path.read_text())["key"].get("compute") for path in (tmp_path / "cache").glob("*/meta.json")]
    assert sorted(map(str, found)) == ["None", "None", "bfloat16", "bfloat16"]  # those of earlier versions lack it


def test_an_entry_that_does_not_serve_is_not_used_and_the_reason_is_said(make, monkeypatch):
    monkeypatch.setattr(half_precision, "MOST", 1e-6)
    _, cache, said = opened(make("cache.compute=bfloat16"))
    assert counts(cache) == (0, 2, 0)
    (told,) = said
    assert told.startswith("cache.compute=bfloat16: blocks.0 and what lies before it are computed in float32, since")
    assert "features of 8 images would differ by" in told


def test_auto_is_bfloat16_only_in_hardware(make, monkeypatch):
    monkeypatch.setattr(boundary, "in_hardware", lambda _: False)
    _, cache, said = opened(make("cache.compute=auto"))
    assert counts(cache) == (0, 2, 0)
    assert said == [
        "cache.compute=auto: frozen stages are computed in float32, since this processor has no bfloat16 in hardware "
        "(AVX512-BF16, AMX)"
    ]
    _, cache, said = opened(make("cache.compute=bfloat16"))
    assert counts(cache) == (0, 2, 2)
    assert said[0].endswith("float32 is many times as fast")
    monkeypatch.setattr(boundary, "in_hardware", lambda _: True)
    _, cache, said = opened(make("cache.compute=auto"))
    assert counts(cache) == (2, 0, 2)
    assert len(said) == 1


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx2", "avx512_f"}, False), ({"avx512_bf16"}, True), ({"amx_tile", "amx_bf16"}, True), (set(), False)],
)
def test_a_processor_is_quick_at_bfloat16_if_it_says_so(capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(half_precision, "_cpu_capabilities", lambda: frozenset(capabilities))
    assert in_hardware(CPU) is expected


def test_training_in_bfloat16_has_entries_of_its_own_whatever_the_setting(make):
    _, first, _ = opened(make("trainer.precision=bf16"))
    _, second, said = opened(make("trainer.precision=bf16", "cache.compute=bfloat16"))
    assert counts(first) == (0, 2, 0)
    assert counts(second) == (2, 0, 0)
    assert said == []


def test_one_pass_in_bfloat16_fills_the_depths_of_a_sweep(make):
    _, first, _ = opened(make("cache.compute=bfloat16", "cache.prefill=[all]"))
    assert counts(first) == (0, 4, 2)
    assert first.totals.metrics()["cache/bfloat16"] == 2
    assert first.totals.images == len(first.prepared.data.train) + len(first.prepared.data.val)
    _, later, _ = opened(make("cache.compute=bfloat16", "freeze=all"))
    assert counts(later) == (2, 0, 2)


def test_a_run_from_rounded_activations_ends_close_to_one_from_exact_ones(make, tmp_path):
    steady = ("optimizer=sgd", "optimizer.lr=0.01")
    start = state_of(prepare(make(*steady)))
    plain, one, _ = trained(make(*steady), tmp_path / "plain")
    half, other, cache = trained(make(*steady, "cache.compute=bfloat16"), tmp_path / "half")
    ends, others, begun = (
        torch.cat([value.flatten() for value in each.values() if value.is_floating_point()])
        for each in (state_of(plain), state_of(half), start)
    )
    assert 0 < (ends - others).norm() < 0.1 * (ends - begun).norm()
    assert one.audited == other.audited
    logits, found = one.test().logits, other.test().logits
    assert counts(cache)[2] == 3
    assert abs(logits - found).max() < 0.1 * abs(logits - logits.mean(0)).max()


def test_what_is_not_a_number_does_not_serve():
    assert not half_precision.Difference(float("nan"), 0.0).serves
    assert not half_precision.Difference(0.0, float("inf")).serves
    assert half_precision.Difference(MOST, MOST).serves
