"""Too few images: what is refused before the first step, and what is only told."""

from dataclasses import replace
from pathlib import Path

import pytest

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import torch

from small_fits import freeze, small
from thawlab.config.schema import Config, ConfigError
from thawlab.data.images import ImageData, Split
from thawlab.launch.compose import compose
from thawlab.strategies.phases import Logistic
from thawlab.training import few_images


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def configured(*arguments: str) -> Config:
    job = compose(["trainer.workers=0", *arguments], "train.py")
    assert job is not None
    return job.config


def part(split: Split, size: int) -> Split:
    return Split(split.ids[:size], split.paths[:size], split.labels[:size], split.read)


def with_training_images(data: ImageData, size: int) -> ImageData:
    return replace(data, train=part(data.train, size))


def test_fewer_images_than_processes_are_refused_with_the_most_that_work(tiny_data, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "7")
    config = configured("trainer=ddp", "trainer.devices=7")
    with pytest.raises(ConfigError, match=r"^trainer.devices=7: tiny has only 6 validation images, .*devices=6 or"):
        few_images.check_processes(config, tiny_data)
    few_images.check_processes(configured(), tiny_data)  # a process by itself, whatever stands in the environment
    monkeypatch.setenv("WORLD_SIZE", "6")
    few_images.check_processes(config, tiny_data)


def test_a_batch_of_one_is_refused_where_batch_norm_sees_one_value_a_channel(tiny_data):
    model = small("test_resnet")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config, alone = configured("batch_size=1"), with_training_images(tiny_data, 1)
    with pytest.raises(ConfigError, match=r"^batch_size=1: every step sees a single image, .*use batch_size=2 or more"):
        few_images.check_single_images(config, tiny_data, model, [freeze(model, 0)], 16)
    with pytest.raises(ConfigError, match=r"^batch_size=32: tiny has a single training image, .*use more images"):
        few_images.check_single_images(configured(), alone, model, [freeze(model, 0)], 16)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for case in (tiny_data, alone):
        few_images.check_single_images(config, case, model, [freeze(model, "all")], 16)
        few_images.check_single_images(config, case, model, [replace(freeze(model, 0), batch_norm="eval")], 16)
        few_images.check_single_images(config, case, model, [freeze(model, 0)], 96)  # more than one pixel to the end
        few_images.check_single_images(config, case, small("test_vit"), [freeze(small("test_vit"), 0)], 16)


def test_a_single_image_in_each_process_is_refused_as_in_one(tiny_data, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    model = small("test_resnet")
    with pytest.raises(ConfigError, match=r"tiny has a single training image in each process"):
        few_images.check_single_images(
            configured("trainer=ddp"), with_training_images(tiny_data, 2), model, [freeze(model, 0)], 16
        )


def test_an_image_that_is_left_over_is_no_batch_of_one(tiny_data):
    model = small("test_resnet")
    few_images.check_single_images(configured("batch_size=9"), tiny_data, model, [freeze(model, 0)], 16)


def test_mixing_needs_two_images(tiny_data):
    config, alone = configured("augment=strong"), with_training_images(tiny_data, 1)
    with pytest.raises(ConfigError, match=r"^augment.mixup=.* nothing to mix it with; switch both off"):
        few_images.check_single_images(config, alone, small("test_vit"), [], 16)


def test_what_is_too_little_to_rely_on_is_told_with_the_way_out(tiny_data):
    phases = [freeze(small("test_resnet"), 0, epochs=5)]
    config = configured("batch_size=4", "trainer.min_steps=0")
    validation, steps, rare = few_images.notes(config, tiny_data, phases)
    assert validation.startswith("6 validation images: each is 16.7 points of val acc")
    assert steps.startswith("15 optimizer steps in all, which is little training: use trainer.min_steps, more")
    assert rare.startswith("fewer than 5 training images: bright (3), grey (3), dark (4); add images")


def test_nothing_is_told_where_there_is_enough(tiny_data):
    many = Split(tuple(map(str, range(60))), ("",) * 60, torch.arange(60).remainder(3).numpy(), tiny_data.train.read)
    data = replace(tiny_data, train=many, val=many)
    config = configured("batch_size=4", "trainer.min_steps=50")
    assert few_images.notes(config, data, [freeze(small("test_resnet"), 0, epochs=5)]) == []


def test_steps_are_counted_as_they_are_taken(tiny_data):
    phases = [freeze(small("test_resnet"), 0, epochs=3), freeze(small("test_resnet"), 1, epochs=2)]
    for settings, steps in (
        (["batch_size=4"], 5 * 3),
        (["batch_size=3"], 5 * 3),  # 3, 3 and 4
        (["batch_size=4", "trainer.accumulate=2"], 5 * 2),
        (["batch_size=4", "augment=strong"], 5 * 2),  # complete batches alone
    ):
        assert few_images.steps_of(configured(*settings), tiny_data, phases) == steps


def test_an_epoch_makes_as_many_passes_as_the_least_number_of_steps_needs(tiny_data):
    phases = [freeze(small("test_resnet"), 0, epochs=3), freeze(small("test_resnet"), 1, epochs=2)]
    for settings, passes, steps in (
        (["trainer.min_steps=0"], 1, 5 * 3),
        (["trainer.min_steps=15"], 1, 5 * 3),
        (["trainer.min_steps=16"], 2, 5 * 5),  # 20 images in batches of 4
        (["trainer.min_steps=150"], 12, 5 * 30),
        (["trainer.min_steps=16", "trainer.accumulate=2"], 3, 5 * 4),
        (["trainer.min_steps=16", "augment=strong"], 2, 5 * 5),
    ):
        config = configured("batch_size=4", *settings)
        assert few_images.passes(config, tiny_data, phases) == passes, settings
        assert few_images.steps_of(config, tiny_data, phases, passes) == steps, settings


def test_what_is_solved_for_takes_one_pass(tiny_data):
    solved = replace(freeze(small("test_resnet"), "all"), logistic=Logistic((1.0,), 100))
    assert few_images.passes(configured("trainer.min_steps=150"), tiny_data, [solved]) == 1


def test_several_passes_are_told_with_how_to_switch_them_off(tiny_data):
    config = configured("batch_size=4", "trainer.min_steps=60")
    phases = [freeze(small("test_resnet"), 0, epochs=5)]
    (told,) = (note for note in few_images.notes(config, tiny_data, phases) if "passes" in note)
    assert told == (
        "10 training images: one pass an epoch would be 15 optimizer steps in all, so each epoch makes 5 passes: "
        "65 steps (trainer.min_steps=0: one pass)"
    )
    assert few_images.facts(config, tiny_data, phases)["steps"] == "65"
