import json

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import yaml
from real_runs import artifacts, best_weights, client, only_run, same, train
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss, top_k_accuracy_score

import thawlab  # noqa: F401  # before timm, which imports torchvision
from thawlab.backbones.weights import build
from thawlab.data.sources import digits
from thawlab.data.transforms import eval_transform
from thawlab.tracking.mlflow_names import flatten

GROUPS = ("layer2", "layer3", "layer4", "head")  # what `freeze=1` leaves to train
FROZEN = "stem layer1"


@pytest.fixture(scope="module")
def run(finished):
    return only_run(finished.folder)


@pytest.fixture(scope="module")
def predictions(run):
    return pd.read_parquet(artifacts(run) / "predictions" / "test.parquet")


def test_a_run_leaves_two_folders_and_nothing_else(finished):
    assert {path.name for path in finished.folder.iterdir()} == {"mlruns", "outputs"}
    assert {path.name for path in (finished.folder / "mlruns").iterdir()} <= {
        "mlflow.db",
        "mlflow.db.lock",
        "artifacts",
        ".gitignore",
    }


def test_a_run_ends_as_finished_below_its_dataset(finished, run):
    assert run.info.status == "FINISHED"
    assert client(finished.folder).get_experiment(run.info.experiment_id).name == "digits"
    assert "freeze=1" in run.info.run_name
    assert "seed=0" in run.info.run_name


def test_the_terminal_says_what_was_frozen_and_how_it_went(finished, run):
    for word in ("depth 1 of 4: stem, layer1", "epoch 1/3", "epoch 3/3", "unchanged, bit for bit", run.info.run_id):
        assert word in finished.stdout
    assert f"acc {run.data.metrics['test/acc']:.4f}" in finished.stdout
    assert "thawlab ui" in finished.stdout


def test_the_parameters_are_the_resolved_configuration_and_what_was_frozen(run):
    kept = yaml.safe_load((artifacts(run) / "config" / "config.yaml").read_text())
    expected = flatten(kept)
    assert {"freeze": "1", "backbone.name": "test_resnet", "optimizer.name": "adamw"}.items() <= expected.items()
    expected |= {"freeze_depth": "1", "freeze_stages": FROZEN, "transfer_depth": "4", "weights": "random"}
    expected["passes"] = "1"
    preprocessing = {key for key in run.data.params if key.startswith("preprocessing.")}
    assert preprocessing >= {"preprocessing.mean", "preprocessing.std", "preprocessing.interpolation"}
    assert {key: value for key, value in run.data.params.items() if key not in preprocessing} == expected


def test_every_epoch_leaves_its_metrics_and_learning_rates(finished, run):
    by_epoch = {"train/loss", "train/acc", "val/loss", "val/acc", "val/balanced_acc", "phase"}
    by_epoch |= {f"lr/{name}" for name in GROUPS}
    store = client(finished.folder)
    for name in by_epoch:
        assert [each.step for each in store.get_metric_history(run.info.run_id, name)] == [0, 1, 2], name
    once = {"best/val_acc", "best/epoch", "test/acc", "test/acc_top5", "test/balanced_acc", "test/f1_macro"}
    once |= {"test/loss", "test/ece", "cost/fit_seconds", "cost/images_per_second", "cost/peak_memory_mb"}
    once |= {"cost/trainable_params", "cost/total_params", "cost/cache_seconds"}
    once |= {"cache/hits", "cache/filled", "cache/mb", "cache/images_per_second"}
    assert set(run.data.metrics) == by_epoch | once
    for name in once:
        assert len(store.get_metric_history(run.info.run_id, name)) == 1, name


def test_the_best_epoch_is_the_first_with_the_highest_validation_accuracy(finished, run):
    history = client(finished.folder).get_metric_history(run.info.run_id, "val/acc")
    accuracies = [each.value for each in sorted(history, key=lambda each: each.step)]
    assert run.data.metrics["best/val_acc"] == max(accuracies)
    assert run.data.metrics["best/epoch"] == accuracies.index(max(accuracies))


def test_the_tags_say_what_made_the_run(finished, run):
    tags = run.data.tags
    ours = {"config_hash", "dataset_digest", "weights_digest", "thawlab_version", "output_dir", "overrides"}
    assert ours <= set(tags)
    assert "sweep_id" not in tags
    assert tags["overrides"].split("\n") == list(finished.arguments)
    assert tags["output_dir"].startswith(str(finished.folder / "outputs"))


def test_the_three_splits_are_dataset_inputs_with_their_digest_and_size(run):
    inputs = {each.tags[0].value: each.dataset for each in run.inputs.dataset_inputs}
    sizes = {role: json.loads(dataset.profile)["num_rows"] for role, dataset in inputs.items()}
    assert sizes == {"train": 1259, "val": 269, "test": 269}
    assert {dataset.digest for dataset in inputs.values()} == {run.data.tags["dataset_digest"][:36]}


def test_the_artifacts_are_these(run):
    folder = artifacts(run)
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {
        "config/config.yaml",
        "config/overrides.yaml",
        "checkpoints/best.ckpt",
        "predictions/test.parquet",
        "plots/confusion_matrix.png",
        "plots/learning_curves.png",
        "environment/requirements.txt",
        "stages.json",
    }


def test_every_test_image_was_predicted_once_and_the_metrics_follow_from_it(run, predictions):
    classes = [str(digit) for digit in range(10)]
    columns = [f"p/{name}" for name in classes]
    assert list(predictions.columns) == ["id", "path", "label", "predicted", "hash", *columns]
    assert len(predictions) == predictions["id"].nunique() == 269
    probabilities = predictions[columns].to_numpy(np.float64)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    labels = predictions["label"].astype(int).to_numpy()
    predicted = predictions["predicted"].astype(int).to_numpy()
    np.testing.assert_array_equal(predicted, probabilities.argmax(axis=1))
    expected = {
        "test/acc": accuracy_score(labels, predicted),
        "test/acc_top5": top_k_accuracy_score(labels, probabilities, k=5),
        "test/balanced_acc": balanced_accuracy_score(labels, predicted),
        "test/f1_macro": f1_score(labels, predicted, average="macro"),
        "test/loss": log_loss(labels, probabilities / probabilities.sum(axis=1, keepdims=True)),
    }
    assert {name: run.data.metrics[name] for name in expected} == pytest.approx(expected, abs=1e-5)


def test_the_labels_of_the_predictions_are_those_of_the_images(predictions):
    target = load_digits().target
    positions = predictions["id"].astype(str).str.extract(r"(\d+)$")[0].astype(int)
    assert predictions["label"].astype(int).tolist() == target[positions].tolist()


def test_the_stages_are_kept_with_what_was_done_to_each(run):
    (phase,) = json.loads((artifacts(run) / "stages.json").read_text())
    assert (phase["phase"], phase["epochs"]) == ("finetune", 3)
    rows = {row["name"]: row for row in phase["stages"]}
    assert list(rows) == ["stem", "layer1", "layer2", "layer3", "layer4", "head"]
    assert [name for name, row in rows.items() if row["frozen"]] == FROZEN.split()
    assert all((row["lr"] is None) == row["frozen"] for row in rows.values())
    trained = sum(row["parameters"] for row in rows.values() if not row["frozen"])
    assert trained == run.data.metrics["cost/trainable_params"]
    assert sum(row["parameters"] for row in rows.values()) == run.data.metrics["cost/total_params"]


def test_the_kept_weights_load_without_unpickling_and_say_how_to_use_them(run):
    import timm

    content = torch.load(artifacts(run) / "checkpoints" / "best.ckpt", weights_only=True)
    assert (content["architecture"], content["image_size"]) == ("test_resnet", 32)
    assert content["classes"] == [str(digit) for digit in range(10)]
    timm.create_model("test_resnet", num_classes=10).load_state_dict(content["state_dict"], strict=True)


def test_the_same_seed_gives_the_same_weights_and_another_one_others(finished, run, tmp_path):
    again, other = tmp_path / "again", tmp_path / "other"
    for folder, more in ((again, ["seed=0", "trainer.workers=1"]), (other, ["seed=1", "epochs=1"])):
        folder.mkdir()
        result = train(folder, *finished.arguments, *more)
        assert result.returncode == 0, result.stdout + result.stderr
    assert same(best_weights(run), best_weights(only_run(again)))
    assert run.data.metrics["test/loss"] == only_run(again).data.metrics["test/loss"]
    assert not same(best_weights(run), best_weights(only_run(other)))


def test_the_kept_weights_rebuild_the_tested_network_and_start_another_run(run, predictions):
    path = artifacts(run) / "checkpoints" / "best.ckpt"
    kept = torch.load(path, weights_only=True)
    model = timm.create_model(kept["architecture"], **kept["options"])
    model.load_state_dict(kept["state_dict"])
    transform = eval_transform(kept["preprocessing"], kept["image_size"])
    test = digits.load(
        digits.Settings(name="digits", val_share=0.15, test_share=0.15, train_share=1.0, split_seed=0, hflip=False)
    ).test
    assert list(test.ids) == list(predictions["id"])
    with torch.no_grad():
        logits = model.eval()(torch.stack([transform(test.read(i)) for i in range(64)]))
    assert list(logits.argmax(1).numpy()) == [kept["classes"].index(name) for name in predictions["predicted"][:64]]

    other = build(kept["architecture"], 3, pretrained=True, checkpoint_path=str(path)).model
    same_names = [name for name in kept["state_dict"] if name not in ("fc.weight", "fc.bias")]
    assert all(torch.equal(other.state_dict()[name], kept["state_dict"][name]) for name in same_names)
