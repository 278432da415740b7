from dataclasses import replace
from itertools import product
from math import ceil
from typing import NamedTuple

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F

from thawlab.data.samplers import TrainSampler
from thawlab.strategies.phases import Schedule
from thawlab.training.heads.batches import Features
from thawlab.training.heads.module import Head, HeadRecipe, ManyHeads
from thawlab.training.heads.optimizer import coupling
from thawlab.training.optimizers import create_optimizer, create_schedule

D, CLASSES, TRAIN, VAL, TEST, BATCH, EPOCHS = 12, 4, 37, 15, 11, 8, 4
LONG = Schedule("cosine", 0.2, 0.1)


def features(views: int = 1) -> Features:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(CLASSES, D, generator=generator)

    def of(size: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.randint(0, CLASSES, (size,), generator=generator)
        return centres[labels] + 1.5 * torch.randn(size, D, generator=generator), labels

    (train, train_labels), (val, val_labels), (test, _) = of(TRAIN), of(VAL), of(TEST)
    shifted = torch.stack([train + 0.3 * view for view in range(views)])
    return Features(shifted, train_labels, val, val_labels, test, {})


def grid(lrs=(0.01, 0.1), decays=(0.0, 0.3), smoothings=(0.0, 0.2), orders=(5, 6), bias: bool = True) -> list[Head]:
    found = []
    for lr, decay, smoothing, order in product(lrs, decays, smoothings, orders):
        generator = torch.Generator().manual_seed(order)
        weight = torch.randn(CLASSES, D, generator=generator)
        found.append(
            Head(weight, torch.randn(CLASSES, generator=generator) if bias else None, order, lr, decay, smoothing)
        )
    return found


def recipe(optimizer: str = "adamw", schedule: Schedule = LONG, **options) -> HeadRecipe:
    return HeadRecipe(optimizer, options, coupling(optimizer, options), schedule, BATCH)


def trained(heads, given: Features, how: HeadRecipe, clip: float | None = None, accumulate: int = 1) -> ManyHeads:
    module = ManyHeads(heads, given, how)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        gradient_clip_val=clip,
        accumulate_grad_batches=accumulate,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module)
    return module


class Alone(NamedTuple):
    rows: list[dict[str, float]]
    weight: torch.Tensor  # at the best epoch
    bias: torch.Tensor | None
    best_epoch: int


def alone(head: Head, given: Features, how: HeadRecipe, clip: float | None = None, accumulate: int = 1) -> Alone:
    """The same head by a plain loop."""
    weight = head.weight.clone().requires_grad_()
    bias = None if head.bias is None else head.bias.clone().requires_grad_()
    parts = [weight] if bias is None else [weight, bias]
    groups = [{"params": [weight], "lr": head.lr, "weight_decay": head.weight_decay}]
    groups += [{"params": [bias], "lr": head.lr, "weight_decay": 0.0}] if bias is not None else []
    optimizer = create_optimizer(how.optimizer, groups, head.lr, how.options)
    sampler = TrainSampler(TRAIN, BATCH, head.order)
    steps = EPOCHS * ceil(ceil(TRAIN / BATCH) / accumulate)
    schedule = create_schedule(how.schedule, optimizer, steps)
    rows, best = [], Alone([], weight, bias, -1)
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        batches = torch.tensor([position for _, position in sampler]).split(BATCH)
        losses, right = 0.0, 0
        view = given.train[epoch % len(given.train)]
        for number, batch in enumerate(batches):
            logits = F.linear(view[batch], weight, bias)
            loss = F.cross_entropy(logits, given.train_labels[batch], label_smoothing=head.label_smoothing)
            (loss / accumulate).backward()
            losses += float(loss.detach()) * len(batch)
            right += int((logits.argmax(1) == given.train_labels[batch]).sum())
            if (number + 1) % accumulate == 0 or number + 1 == len(batches):
                if clip is not None:
                    torch.nn.utils.clip_grad_norm_(parts, clip)
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
        with torch.no_grad():
            logits = F.linear(given.val, weight, bias)
        row = {"train/loss": losses / TRAIN, "train/acc": right / TRAIN, "lr/head": optimizer.param_groups[0]["lr"]}
        row |= {"val/loss": float(F.cross_entropy(logits, given.val_labels))}
        row |= {"val/acc": float((logits.argmax(1) == given.val_labels).float().mean())}
        hits = logits.argmax(1) == given.val_labels
        recalls = [float(hits[given.val_labels == each].float().mean()) for each in given.val_labels.unique()]
        row["val/balanced_acc"] = sum(recalls) / len(recalls)
        earlier = [(each["val/acc"], -each["val/loss"]) for each in rows]
        if (row["val/acc"], -row["val/loss"]) > max(earlier, default=(-1.0, 0.0)):
            kept = None if bias is None else bias.detach().clone()
            best = Alone(rows, weight.detach().clone(), kept, epoch)
        rows.append(row)
    return best


def assert_same(module: ManyHeads, number: int, single: Alone) -> None:
    for many, one in zip(module.history, single.rows, strict=True):
        assert {name: float(values[number]) for name, values in many.items()} == pytest.approx(one, abs=2e-5)
    assert module.chosen[number].epoch == single.best_epoch
    weight, bias = module.best(number)
    torch.testing.assert_close(weight, single.weight, atol=2e-5, rtol=1e-4)
    if single.bias is not None:
        torch.testing.assert_close(bias, single.bias, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "schedule", "clip", "accumulate"),
    [
        ("adamw", {}, LONG, None, 1),
        ("adamw", {"betas": [0.8, 0.9]}, Schedule("onecycle", 0.3, 0.0), 1.0, 1),
        ("adamw", {"amsgrad": True}, LONG, 1.0, 1),
        ("adam", {}, LONG, 1.0, 1),
        ("sgd", {}, LONG, None, 1),
        ("sgd", {"momentum": 0.9}, Schedule("constant", 0.0, 0.0), 0.5, 1),
        ("sgd", {"momentum": 0.9}, LONG, 1.0, 2),
        ("lion", {}, LONG, 1.0, 1),
        ("adafactor", {}, LONG, None, 1),  # each tensor for itself
        ("lars", {}, LONG, None, 1),
    ],
)
def test_each_head_is_trained_as_it_would_be_alone(name, options, schedule, clip, accumulate):
    heads, given, how = grid(), features(), recipe(name, schedule, **options)
    module = trained(heads, given, how, clip, accumulate)
    for number, head in enumerate(heads):
        assert_same(module, number, alone(head, given, how, clip, accumulate))


def test_views_are_used_in_turn():
    heads, given = grid(decays=(0.1,), smoothings=(0.1,)), features(views=3)
    module = trained(heads, given, recipe())
    assert_same(module, 3, alone(heads[3], given, recipe()))
    other = trained(heads, features(), recipe())
    assert not torch.allclose(module.history[1]["train/loss"], other.history[1]["train/loss"])


def test_heads_without_a_bias_get_none():
    heads, given = grid(bias=False), features()
    module = trained(heads, given, recipe())
    assert module.best(0)[1] is None
    assert_same(module, 5, alone(heads[5], given, recipe()))


def test_a_classifier_that_is_a_convolution_keeps_its_shape_for_the_optimizer():
    plain = grid(smoothings=(0.0,))
    convolved = [replace(head, weight=head.weight[:, :, None, None]) for head in plain]
    one, other = (trained(heads, features(), recipe()) for heads in (plain, convolved))
    torch.testing.assert_close(one.best(2)[0], other.best(2)[0])


def test_one_head_is_trained_as_many_are():
    (head,) = grid((0.05,), (0.1,), (0.1,), (7,))
    assert_same(trained([head], features(), recipe(), clip=1.0), 0, alone(head, features(), recipe(), clip=1.0))


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_head_that_diverges_leaves_the_others_as_they_are(clip):
    heads, given, how = grid(smoothings=(0.0,)), features(), recipe("sgd", momentum=0.9)
    calm = trained(heads, given, how, clip)
    heads[3] = replace(heads[3], weight=torch.full((CLASSES, D), torch.nan))
    module = trained(heads, given, how, clip)
    assert module.history[-1]["train/loss"].isnan().tolist() == [number == 3 for number in range(len(heads))]
    for number in set(range(len(heads))) - {3}:
        for kept, expected in zip(module.best(number), calm.best(number), strict=True):
            torch.testing.assert_close(kept, expected, atol=0, rtol=0)


def test_the_test_logits_are_those_of_the_best_epoch():
    heads, given = grid(), features()
    module = trained(heads, given, recipe())
    single = alone(heads[6], given, recipe())
    torch.testing.assert_close(
        module.test_logits(6), F.linear(given.test, single.weight, single.bias), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adamw", "number"),
        ("sgd", "number"),
        ("lars", "tensor"),
        ("adafactor", "tensor"),
        ("lamb", "all"),
        ("adahessian", "all"),
    ],
)
def test_how_far_an_optimizer_reaches_is_found_out(name, expected):
    assert coupling(name, {}) == expected
