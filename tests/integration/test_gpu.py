"""What holds on the CPU holds on a GPU: frozen is frozen, cached is uncached, a repeated run is the same run.

The other tests do not see GPUs (`tests/conftest.py`), so that they mean the same everywhere.
"""

from pathlib import Path

import pytest

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import torch
from real_runs import TINY, artifacts, only_run, runs, train
from tiny_runs import configured, make_weights, moved, state_of

from thawlab.config.schema import Config
from thawlab.training.cache.feature_cache import FeatureCache
from thawlab.training.fit import fit
from thawlab.training.preparation import Prepared, prepare

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here, or none that PyTorch can use"),
]
ON_GPU = ("trainer.name=gpu", "trainer.accelerator=gpu")
BACKBONES = {"test_resnet": {}, "tf_efficientnet_lite0": {}, "test_vit": {"img_size": 32}, "test_convnext": {}}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    return {name: make_weights(folder / f"{name}.safetensors", name, **options) for name, options in BACKBONES.items()}


@pytest.fixture
def make(images, weights, tmp_path):
    """The configuration of a run on the GPU; its cache lies in the test's folder."""

    def config(*arguments: str, backbone: str = "test_resnet") -> Config:
        given = (f"backbone={backbone}", f"backbone.checkpoint_path={weights[backbone]}", "augment=none", "epochs=3")
        steady = ("optimizer=sgd", "optimizer.lr=0.01", f"cache.dir={tmp_path / 'cache'}")
        return configured(images, *given, *steady, *ON_GPU, *arguments)

    return config


@pytest.fixture
def exact():
    """Convolutions in float32, not in TF32, as matrix products are by default."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def trained(config: Config, folder: Path) -> tuple[Prepared, FeatureCache]:
    prepared = prepare(config)
    cache = FeatureCache(config, prepared)
    found = fit(config, prepared, folder, cache=cache)
    used = torch.cuda.max_memory_allocated() / 2**20
    assert 0 < found.cost["cost/peak_memory_mb"] <= used
    return prepared, cache


def assert_close(one: Prepared, other: Prepared, start: Prepared, share: float) -> None:
    """Equal networks but for a share of the way that training moved them: cuDNN adds up in an order of its own."""
    ends, others, begun = (
        torch.nn.utils.parameters_to_vector(each.network.model.parameters()).cpu() for each in (one, other, start)
    )
    assert torch.linalg.norm(ends - others) <= share * torch.linalg.norm(ends - begun)


@pytest.mark.parametrize("precision", ["32", "bf16", "16"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_frozen_is_frozen_and_all_else_is_trained(backbone, precision, make, tmp_path):
    config = make("freeze=1", f"trainer.precision={precision}", "cache=off", backbone=backbone)
    before = state_of(prepare(config))
    prepared, _ = trained(config, tmp_path / "run")
    (phase,) = prepared.phases
    changed = moved(before, {name: value.cpu() for name, value in state_of(prepared).items()})
    parameters = {name for name, _ in prepared.network.model.named_parameters()}
    assert changed & parameters <= set(phase.parameters)
    # A bias before another BatchNorm has no gradient.
    assert {name for name in phase.parameters if not name.endswith(".bias")} <= changed
    frozen = [name for stage in prepared.layers.stages[:2] for name in before if name.startswith(f"{stage.name}.")]
    assert changed.isdisjoint(frozen)


@pytest.mark.parametrize("depth", ["1", "all"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_cached_run_ends_as_an_uncached_one(backbone, depth, make, exact, tmp_path):
    precise = (f"freeze={depth}", "trainer.precision=32")
    plain, _ = trained(make(*precise, "cache.name=off", backbone=backbone), tmp_path / "plain")
    cached, cache = trained(make(*precise, "cache.name=require", backbone=backbone), tmp_path / "cached")
    assert (cache.totals.filled, cache.totals.hits) == (2, 0)
    assert_close(plain, cached, prepare(make(*precise, backbone=backbone)), 0.01)
    _, again = trained(make(*precise, "cache.name=require", "seed=4", backbone=backbone), tmp_path / "again")
    assert (again.totals.filled, again.totals.hits) == (0, 2)


@pytest.mark.parametrize("precision", ["32", "auto"])
@pytest.mark.parametrize(
    "strategy",
    [
        ["strategy=gradual", "freeze=1", "strategy.epochs_per_phase=1", "epochs=4"],
        ["strategy=lp_ft", "freeze=1"],
        ["strategy=linear_probe", "strategy.solver=lbfgs"],
        ["strategy=lora", "freeze=1"],
        ["strategy=auto_rgn", "freeze=1"],
        ["strategy=finetune", "freeze=1", "trainer.ema=0.5"],
    ],
    ids=" ".join,
)
def test_strategies_go_on_from_stored_activations(strategy, precision, make, exact, tmp_path):
    settings = (*strategy, f"trainer.precision={precision}")
    plain, _ = trained(make(*settings, "cache.name=off"), tmp_path / "plain")
    cached, cache = trained(make(*settings, "cache.name=require"), tmp_path / "cached")
    assert cache.totals.filled >= 2
    assert_close(plain, cached, prepare(make(*settings)), 0.01 if precision == "32" else 0.2)


def test_activations_of_the_cpu_are_not_those_of_the_gpu(make, tmp_path):
    trained(make("freeze=1", "trainer.precision=32", "cache.name=require"), tmp_path / "gpu")
    config = make("freeze=1", "trainer.precision=32", "cache.name=require", "trainer.name=cpu")
    on_cpu = config.model_copy(update={"trainer": config.trainer.model_copy(update={"accelerator": "cpu"})})
    prepared = prepare(on_cpu)
    cache = FeatureCache(on_cpu, prepared)
    fit(on_cpu, prepared, tmp_path / "cpu", cache=cache)
    assert (cache.totals.filled, cache.totals.hits) == (2, 0)


def test_many_heads_end_as_each_of_its_own(make, images, weights, tmp_path, monkeypatch):
    common = ["dataset=folder", f"dataset.root={images}", "image_size=32", "batch_size=8", "trainer.workers=0"]
    common += ["backbone=test_resnet", f"backbone.checkpoint_path={weights['test_resnet']}", "augment=none"]
    common += ["strategy=linear_probe", "strategy.solver=gradient", "epochs=3", "trainer=gpu", "trainer.precision=32"]
    result = train(tmp_path, *common, "optimizer.lr=[1e-3,1e-2]")
    assert result.returncode == 0, result.stdout + result.stderr
    heads = {each.data.params["optimizer.lr"]: each for each in runs(tmp_path) if "test/acc" in each.data.metrics}
    assert set(heads) == {"0.001", "0.01"}
    alone = tmp_path / "alone"
    alone.mkdir()
    result = train(alone, *common, "optimizer.lr=1e-2")
    assert result.returncode == 0, result.stdout + result.stderr
    for name in ("test/loss", "test/acc", "best/val_acc"):
        assert heads["0.01"].data.metrics[name] == pytest.approx(only_run(alone).data.metrics[name], abs=2e-4)


@pytest.mark.parametrize("trainer", [["trainer=gpu"], ["trainer=ddp", "trainer.devices=1"], []], ids=" ".join)
def test_a_run_says_where_it_was_made_and_is_repeated_there(trainer, tmp_path):
    result = train(tmp_path, *TINY, *trainer, "epochs=2", "freeze=1")
    assert result.returncode == 0, result.stdout + result.stderr
    run = only_run(tmp_path)
    assert run.data.tags["device"] == torch.cuda.get_device_name()
    assert run.data.metrics["cost/peak_memory_mb"] < 400  # of the GPU; the process itself takes more
    assert (artifacts(run) / "predictions" / "test.parquet").is_file()
    program = ("-c", "from thawlab.cli.main import main; main()", "rerun")
    again = train(tmp_path, run.info.run_id, program=program)
    assert again.returncode in (0, 1), again.stdout + again.stderr  # it may differ in more than rounding
    (repeated,) = [each for each in runs(tmp_path) if each.data.tags.get("rerun_of") == run.info.run_id]
    assert repeated.data.tags["rerun_verdict"] in again.stdout.replace("\n", " ")
    assert repeated.data.metrics["test/acc"] == pytest.approx(run.data.metrics["test/acc"], abs=0.02)
