"""The settings of training, each by a real fit on the CPU: losses, metrics, steps."""

import numpy as np
import pytest

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)
from small_fits import changed, freeze, recipe, small, state_of

# isort: split
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor

from thawlab.training.trainer import best_epoch


class Steps(pl.Callback):
    """Notes each training step's images, logits, labels and loss."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.logits: list[Tensor] = []
        self.labels: list[Tensor] = []
        self.images: list[Tensor] = []
        self.optimizer_steps = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        def note(_module: object, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if trainer.training:
                self.images.append(inputs[0])
                self.logits.append(output.detach().float())

        pl_module.model.register_forward_hook(note)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs, batch, *_: object
    ) -> None:
        self.losses.append(float(outputs["loss"]))
        self.labels.append(batch[1])
        self.optimizer_steps = trainer.global_step


def test_the_loss_is_cross_entropy_with_smoothed_labels(fit):
    steps, model = Steps(), small("test_resnet")
    fit(model, freeze(model, "all"), recipe(label_smoothing=0.2), callbacks=(steps,))
    expected = [
        float(F.cross_entropy(logits, labels, label_smoothing=0.2))
        for logits, labels in zip(steps.logits, steps.labels, strict=True)
    ]
    assert steps.losses == pytest.approx(expected, abs=1e-6)
    assert len(expected) == 3


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_mixing_pairs_images_and_their_smoothed_labels(mix, fit):
    steps, model = Steps(), small("test_resnet")
    settings = recipe(label_smoothing=0.1, **{mix: 1.0})
    fitted = fit(model, freeze(model, "all"), settings, callbacks=(steps,), loading={"drop_last": True})
    assert len(steps.losses) == 2  # complete batches of 4 out of 10

    # The same pairs drawn anew: timm mixes each image with its mirror in the batch, in the share drawn.
    np.random.seed(np.random.SeedSequence((settings.seed, 0, 0)).generate_state(2)[1])
    for loss, logits, labels in zip(steps.losses, steps.logits, steps.labels, strict=True):
        _, targets = fitted.module.mix(torch.zeros(4, 3, 32, 32), labels)
        assert targets.sum(1).tolist() == pytest.approx([1.0] * 4)
        assert float(targets.min()) >= 0.1 / 3 - 1e-6  # smoothed once: no more, no less
        assert loss == pytest.approx(float(-(targets * logits.log_softmax(1)).sum(1).mean()), abs=1e-6)
        assert loss != pytest.approx(float(F.cross_entropy(logits, labels, label_smoothing=0.1)), abs=1e-6)


def test_the_epochs_metrics_are_those_of_all_its_samples(fit, loaders):
    steps, model = Steps(), small("test_resnet")
    fitted = fit(model, freeze(model, 3, epochs=2), recipe(scheduler="cosine"), callbacks=(steps,))

    assert [epoch for epoch, _ in fitted.reports] == [0, 1]
    for epoch, report in fitted.reports:
        batches = slice(3 * epoch, 3 * epoch + 3)  # of 4, 4 and 2 images
        logits, labels = torch.cat(steps.logits[batches]), torch.cat(steps.labels[batches])
        assert report["train/acc"] == pytest.approx(float((logits.argmax(1) == labels).float().mean()))
        assert report["train/loss"] == pytest.approx(float(F.cross_entropy(logits, labels)), abs=1e-5)
        groups = {"lr/layer4", "lr/head"}
        assert report.keys() == {
            "train/acc",
            "train/loss",
            "val/acc",
            "val/loss",
            "val/balanced_acc",
            "seconds",
            *groups,
        }

    data = loaders(model)
    images, labels, _ = zip(*data.val_dataloader(), strict=True)
    with torch.no_grad():
        logits = fitted.module.model.eval()(torch.cat(images))
    last = fitted.reports[-1][1]
    assert last["val/acc"] == pytest.approx(float((logits.argmax(1) == torch.cat(labels)).float().mean()))
    assert last["val/loss"] == pytest.approx(float(F.cross_entropy(logits, torch.cat(labels))), abs=1e-5)
    assert last["val/balanced_acc"] == pytest.approx(balanced_accuracy_score(torch.cat(labels), logits.argmax(1)))
    assert {name: float(fitted.trainer.callback_metrics[name]) for name in ("train/acc", "val/acc")} == pytest.approx(
        {name: last[name] for name in ("train/acc", "val/acc")}
    )


def test_each_groups_rate_is_reported_after_the_epochs_steps(fit):
    model = small("test_resnet")
    fitted = fit(model, freeze(model, 3, epochs=2), recipe(lr=0.01, scheduler="cosine", final=0.0))
    # 6 steps over half a cosine: the rate after 3 is a half, after 6 nothing.
    assert [report["lr/head"] for _, report in fitted.reports] == pytest.approx([0.005, 0.0])
    assert [report["lr/layer4"] for _, report in fitted.reports] == pytest.approx([0.005, 0.0])


def test_accumulated_batches_take_one_step_of_the_optimizer(fit):
    steps, model = Steps(), small("test_resnet")
    fit(model, freeze(model, "all", epochs=2), recipe(), callbacks=(steps,), accumulate=2)
    assert (len(steps.losses), steps.optimizer_steps) == (6, 4)  # 3 batches an epoch: 2 together, then 1


@pytest.mark.parametrize(("clip", "highest"), [(1e-3, 1e-3), (None, 1e9)])
def test_gradients_are_clipped_to_the_norm(clip, highest, fit):
    norms: list[float] = []

    class Norms(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
            gradients = [p.grad.norm() for p in pl_module.parameters() if p.grad is not None]
            norms.append(float(torch.stack(gradients).norm()))

    model = small("test_resnet")
    fit(model, freeze(model, "all"), recipe(), callbacks=(Norms(),), clip=clip)
    assert len(norms) == 3
    assert all(norm <= highest * 1.001 for norm in norms)
    assert (max(norms) > 1e-2) is (clip is None)


def test_a_moving_average_is_what_is_validated_saved_and_left(fit):
    model = small("test_resnet")
    phase = freeze(model, "all")
    weights: list[Tensor] = []

    class Weights(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
            weights.append(model.fc.weight.detach().clone())

    fitted = fit(model, phase, recipe(), callbacks=(Weights(),), ema=0.75)
    average = weights[0]
    for weight in weights[1:]:
        average = 0.75 * average + 0.25 * weight
    saved = torch.load(best_epoch(fitted.trainer).checkpoint, weights_only=True)["state_dict"]
    torch.testing.assert_close(model.fc.weight.detach(), average)
    torch.testing.assert_close(saved["model.fc.weight"], average)


@pytest.mark.parametrize("settings", [{"precision": "bf16"}, {"precision": 32}, {"precision": "auto"}], ids=str)
def test_precisions_train_on_the_cpu_in_float32_weights(settings, fit):
    steps, model = Steps(), small("test_resnet")
    before = state_of(model)
    fitted = fit(model, freeze(model, 3), recipe(), callbacks=(steps,), **settings)
    assert fitted.trainer.precision == {"bf16": "bf16-mixed"}.get(settings["precision"], "32-true")
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert {name.split(".")[0] for name in changed(before, model.state_dict())} == {"layer4", "fc"}
    assert np.isfinite(steps.losses).all()


def test_channels_last_trains_on_images_of_that_layout(fit):
    steps, model = Steps(), small("test_resnet")
    model.to(memory_format=torch.channels_last)
    fit(model, freeze(model, 3), recipe(channels_last=True), callbacks=(steps,))
    assert all(images.is_contiguous(memory_format=torch.channels_last) for images in steps.images)
    assert len(steps.images) == 3


def test_training_stops_when_validation_does_not_improve(fit):
    model = small("test_resnet")
    fitted = fit(model, freeze(model, "all", epochs=9), recipe(lr=1e-12, weight_decay=0.0), patience=2)
    assert [epoch for epoch, _ in fitted.reports] == [0, 1, 2]
    assert best_epoch(fitted.trainer).accuracy == pytest.approx(fitted.reports[0][1]["val/acc"])


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(fit, tmp_path):
    def trained(seed: int, folder: str) -> dict[str, Tensor]:
        model = small("test_vit", drop_path_rate=0.3)
        torch.manual_seed(len(folder))  # whatever was drawn before does not matter
        fit(model, freeze(model, 3), recipe(seed=seed), folder=tmp_path / folder)
        return model.state_dict()

    first = trained(3, "a")
    assert changed(first, trained(3, "bb")) == set()
    assert changed(first, trained(4, "ccc")) != set()


def test_testing_keeps_the_logits_and_the_position_of_every_sample(fit, loaders):
    model = small("test_resnet")
    fitted = fit(model, freeze(model, "all"), recipe())
    data = loaders(model)
    fitted.trainer.test(fitted.module, data, verbose=False)
    positions = np.concatenate([batch for batch, _ in fitted.module.tested])
    logits = np.concatenate([batch for _, batch in fitted.module.tested])
    images, _, _ = zip(*data.test_dataloader(), strict=True)
    assert positions.tolist() == list(range(7))
    with torch.no_grad():
        np.testing.assert_allclose(logits, model.eval()(torch.cat(images)).numpy(), atol=1e-5)


@pytest.mark.slow
def test_a_compiled_model_trains_under_its_own_names(fit):
    model = small("test_resnet")
    before = state_of(model)
    model.compile()
    fit(model, freeze(model, 3), recipe())
    assert {name.split(".")[0] for name in changed(before, model.state_dict())} == {"layer4", "fc"}
