"""Heads that are trained together: each equals the run of its own, and leaves what such a run leaves."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import pandas as pd
import pytest
import torch
from mlflow.entities import Run
from real_runs import artifacts, runs
from tiny_runs import SETTINGS, make_weights
from torch import nn

from thawlab.backbones.linear_head import linear_head
from thawlab.config.job import Job, config_hash
from thawlab.config.schema import ConfigError
from thawlab.launch import sweep_end
from thawlab.launch.compose import compose
from thawlab.runs import family as families
from thawlab.runs.run import run
from thawlab.training.events import Events
from thawlab.training.heads import features
from thawlab.training.heads.batches import Features
from thawlab.training.preparation import prepare

EPOCHS = 3
GRID = ("optimizer.lr=[0.01,0.1]", "optimizer.weight_decay=[0.0,0.2]", "label_smoothing=[0.0,0.2]", "seed=[3,4]")
PARENT = "mlflow.parentRunId"
ONCE = ("test/acc", "test/balanced_acc", "test/f1_macro", "test/loss", "test/ece", "best/val_acc", "best/epoch")
BY_EPOCH = ("train/loss", "train/acc", "val/loss", "val/acc", "lr/head", "phase")


class Family(NamedTuple):
    """What one training of many heads left."""

    job: Job
    failed: list[int]  # numbers of the heads
    parent: Run
    children: list[Run]  # in the order of the heads


@pytest.fixture(scope="module")
def typed(images: Path, tmp_path_factory) -> tuple[str, ...]:
    """A linear probe on a network with weights from a file, without the lists."""
    weights = make_weights(tmp_path_factory.mktemp("weights") / "resnet.safetensors", "test_resnet")
    given = ("dataset=folder", f"dataset.root={images}", *SETTINGS, "strategy=linear_probe", "backbone=test_resnet")
    given = (*given, "strategy.solver=gradient")  # else a head alone would be solved for
    return (*given, f"backbone.checkpoint_path={weights}", "augment=none", f"epochs={EPOCHS}", "cache.dir=cache")


def composed(folder: Path, *arguments: str) -> Job:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        job = compose(arguments, "train.py")
    assert job is not None
    return Job(job.config, folder / job.output_dir, job.overrides, job.sweep, None, job.variants)


def trained(folder: Path, *arguments: str) -> Family:
    job = composed(folder, *arguments)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        failed = [member.number for member in run(job) if member.failed]
    (parent,) = [each for each in runs(folder) if PARENT not in each.data.tags]
    children = [each for each in runs(folder) if each.data.tags.get(PARENT) == parent.info.run_id]
    children.sort(key=lambda each: int(Path(each.data.tags["output_dir"]).name))
    return Family(job, failed, parent, children)


@pytest.fixture(scope="module")
def family(typed, tmp_path_factory) -> Family:
    return trained(tmp_path_factory.mktemp("family"), *typed, *GRID)


@pytest.fixture(scope="module")
def single(typed, family, tmp_path_factory) -> tuple[int, Run]:
    """The run of its own of one of the heads, and that head's place."""
    place = 13
    folder = tmp_path_factory.mktemp("single")
    job = composed(folder, *family.children[place].data.tags["overrides"].split("\n"))
    assert job.config == family.job.variants[place]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(job)
    (alone,) = runs(folder)
    return place, alone


def history(found: Run, name: str) -> list[float]:
    from mlflow.tracking import MlflowClient

    database = artifacts(found).parents[2] / "mlflow.db"
    points = MlflowClient(f"sqlite:///{database}").get_metric_history(found.info.run_id, name)
    assert [point.step for point in sorted(points, key=lambda point: point.step)] == list(range(EPOCHS)), name
    return [point.value for point in sorted(points, key=lambda point: point.step)]


def test_every_head_is_a_finished_run_below_one_parent(family):
    assert family.failed == []
    assert [each.info.status for each in (family.parent, *family.children)] == ["FINISHED"] * 17
    assert family.parent.data.params == {
        "optimizer.lr": "0.01,0.1",
        "optimizer.weight_decay": "0.0,0.2",
        "label_smoothing": "0.0,0.2",
        "seed": "3,4",
    }
    (jobs,) = json.loads((artifacts(family.parent) / "sweep" / "jobs.json").read_text())[3:4]
    assert jobs["run_id"] == family.children[3].info.run_id
    assert family.parent.data.metrics["sweep/jobs"] == 16


def test_a_head_has_its_own_settings_and_the_hash_of_the_run_of_its_own(family):
    for child, config in zip(family.children, family.job.variants, strict=True):
        assert child.data.tags["config_hash"] == config_hash(config)
        assert child.data.params["optimizer.lr"] == str(config.optimizer.lr)
        assert child.data.params["seed"] == str(config.seed)
        assert "one of 16 heads" in child.data.tags["mlflow.note.content"]


def test_a_head_equals_the_run_of_its_own(family, single):
    place, alone = single
    child = family.children[place]
    for name in BY_EPOCH:
        assert history(child, name) == pytest.approx(history(alone, name), abs=2e-5), name
    for name in ONCE:
        assert child.data.metrics[name] == pytest.approx(alone.data.metrics[name], abs=2e-5), name
    one, other = (pd.read_parquet(artifacts(each) / "predictions" / "test.parquet") for each in (child, alone))
    pd.testing.assert_frame_equal(one, other, atol=1e-5, rtol=1e-4)
    kept, expected = (
        torch.load(artifacts(each) / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
        for each in (child, alone)
    )
    assert kept.keys() == expected.keys()
    for name in kept:
        torch.testing.assert_close(kept[name], expected[name], atol=1e-5, rtol=1e-4)


def test_a_head_leaves_what_a_run_of_its_own_leaves(family, single):
    place, alone = single
    child = family.children[place]

    def files(found: Run) -> set[str]:
        folder = artifacts(found)
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    assert files(child) == files(alone)
    assert child.data.params == alone.data.params
    assert {name for name in child.data.metrics if not name.startswith("cache/")} == {
        name for name in alone.data.metrics if not name.startswith("cache/")
    }
    for name in ("cost/trainable_params", "cost/total_params"):
        assert child.data.metrics[name] == alone.data.metrics[name]
    same = ("config_hash", "dataset_digest", "weights_digest", "device", "thawlab_version")
    assert [child.data.tags[name] for name in same] == [alone.data.tags[name] for name in same]
    assert set(child.data.tags) - set(alone.data.tags) == {PARENT, "sweep_id", "heads"}
    stages = [json.loads((artifacts(each) / "stages.json").read_text()) for each in (child, alone)]
    assert stages[0] == stages[1]
    roles = [
        {each.tags[0].value: each.dataset.digest for each in found.inputs.dataset_inputs} for found in (child, alone)
    ]
    assert roles[0] == roles[1]


def test_in_a_sweep_the_heads_hang_below_its_own_parent_and_the_best_stands_for_them(typed, tmp_path):
    from thawlab.tracking.store import open_store
    from thawlab.tracking.sweeps import start_parent

    job = composed(tmp_path, *typed, "seed=[0,1]", "optimizer.lr=[0.1]")
    store = open_store(None, tmp_path / "mlruns")
    parent = start_parent(store, job.experiment_name, "sweep", {}, "")
    inside = Job(job.config, tmp_path / "0", job.overrides, {"parent_id": parent.id, "sweep_id": "s", "number": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        run(Job(inside.config, inside.output_dir, inside.overrides, inside.sweep, None, job.variants))
    children = [each for each in runs(tmp_path) if each.data.tags.get(PARENT) == parent.id]
    assert len(children) == 2 == len(runs(tmp_path)) - 1
    best = max(children, key=lambda each: each.data.metrics["best/val_acc"])
    (tmp_path / "sweep.json").touch()
    (tmp_path / "0" / "outcome.json").write_text(json.dumps({"number": 1, "status": "FINISHED"}))
    (row,) = sweep_end.outcomes(tmp_path, {"plan": {}}).values()
    assert row["metrics"]["best/val_acc"] == best.data.metrics["best/val_acc"]
    assert row["run_id"] in {each.info.run_id for each in children}


def test_a_head_that_diverges_says_so_and_the_others_go_on(typed, tmp_path, capsys):
    found = trained(tmp_path, *typed, "optimizer=sgd", "optimizer.lr=[0.01,1e30]", "trainer.clip=null")
    assert [each.info.status for each in found.children] == ["FINISHED", "FAILED"]
    calm, wild = found.children
    assert wild.data.tags["diverged"].startswith("epoch ")
    assert wild.data.tags["error"].startswith("optimizer.lr=1e+30: the loss is not finite (NaN or infinite) in epoch ")
    assert "test/acc" not in wild.data.metrics
    assert "nonfinite" not in calm.data.tags
    assert "train/loss=" in wild.data.tags["nonfinite"]
    assert "run 2 (optimizer.lr=1e+30): its loss is not finite from epoch" in " ".join(capsys.readouterr().out.split())


def test_a_head_that_cannot_be_kept_fails_alone(typed, tmp_path, monkeypatch):
    real = families.compute_test_metrics
    calls = []

    def broken(*given):
        calls.append(given)
        if len(calls) == 1:
            raise ValueError("no metrics today")
        return real(*given)

    monkeypatch.setattr(families, "compute_test_metrics", broken)
    found = trained(tmp_path, *typed, "seed=[0,1]")
    assert found.failed == [1]
    assert [each.info.status for each in found.children] == ["FAILED", "FINISHED"]
    assert found.parent.info.status == "FAILED"
    assert "no metrics today" in found.children[0].data.tags["error"]
    assert (artifacts(found.children[0]) / "error" / "traceback.txt").is_file()


def test_what_fails_for_all_ends_every_run(typed, tmp_path, monkeypatch):
    def broken(*_given) -> Features:
        raise RuntimeError("no features today")

    job = composed(tmp_path, *typed, "seed=[0,1]")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match="no features today"):
        run(job, broken)
    assert [each.info.status for each in runs(tmp_path)] == ["FAILED"] * 3


def test_each_seed_starts_from_the_head_that_its_run_draws(typed, tmp_path, monkeypatch):
    job = composed(tmp_path, *typed, "seed=[0,1,2]")
    prepared = prepare(job.config)
    found = features.starts(job.config, prepared, [0, 1, 2])
    monkeypatch.setattr(features, "_same", lambda *_: False)  # the long way
    slow = features.starts(job.config, prepared, [0, 1, 2])
    for config in job.variants:
        head = linear_head(prepare(config).network.model)
        for weight, bias in (found[config.seed], slow[config.seed]):
            assert torch.equal(weight, head.weight)
            torch.testing.assert_close(bias, head.bias, atol=0, rtol=0)
    assert not torch.equal(found[0][0], found[1][0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["transfer=2", "seed=[0,1]"], r"^seed=\[0,1\]: the network has random weights below its head"),
        (["optimizer=lamb", "seed=[0,1]"], r"^optimizer=lamb: its step depends on all that it moves"),
    ],
)
def test_heads_that_would_not_be_those_of_runs_of_their_own_are_refused(typed, tmp_path, arguments, message):
    job = composed(tmp_path, *typed, *arguments)
    with pytest.raises(ConfigError, match=message):
        run(job)
    assert not (tmp_path / "mlruns" / "artifacts").exists() or not runs(tmp_path)


def test_a_network_that_drops_features_at_random_is_refused(typed, tmp_path):
    job = composed(tmp_path, *typed, "seed=[0,1]")
    prepared = prepare(job.config)

    def louder(module: nn.Module, _given: object, logits: Any) -> torch.Tensor:
        return logits * (2.0 if module.training else 1.0)

    linear_head(prepared.network.model).register_forward_hook(louder)
    with pytest.raises(ConfigError, match="does it drop features at random"):
        features.check(job.config, prepared, [0, 1])


def test_augmented_views_are_features_of_their_own(typed, tmp_path):
    job = composed(tmp_path, *typed, "augment=strong", "augment.mixup=0", "augment.cutmix=0", "seed=[0,1]")
    from contextlib import nullcontext

    prepared = prepare(job.config)
    found = features.computed(job.config, prepared, torch.device("cpu"), nullcontext, Events())
    assert found.train.shape[:2] == (EPOCHS, 18)
    assert not torch.allclose(found.train[0], found.train[1])
    assert found.val.shape == found.test.shape == (6, found.train.shape[2])
