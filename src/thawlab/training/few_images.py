"""Are there enough images: for the processes that share them, for batch norm, and for what is concluded from them?"""

from bisect import bisect_left
from collections.abc import Sequence

import torch
from torch import nn

from thawlab.backbones import freezing
from thawlab.config.schema import Config, ConfigError
from thawlab.config.small_data import FEW_OF_A_CLASS, FEW_STEPS, FEW_VALIDATION
from thawlab.data.class_counts import class_counts
from thawlab.data.images import ImageData
from thawlab.data.samplers import TrainSampler, batch_sizes
from thawlab.strategies.phases import Phase
from thawlab.system.process_rank import world_size

_NAMED = 4  # classes


def processes(config: Config) -> int:
    """How many processes share the images."""
    return world_size() if config.trainer.name == "ddp" else 1


def check_processes(config: Config, data: ImageData) -> None:
    """Every process needs an image of each split: one without would leave the others waiting.

    Raises:
        ConfigError: there are fewer.
    """
    world = processes(config)
    sizes = {"training": len(data.train), "validation": len(data.val), "test": len(data.test)}
    fewest = min(sizes, key=lambda name: sizes[name])
    if sizes[fewest] < world:
        raise ConfigError(
            f"trainer.devices={world}: {data.name} has only {_count(sizes[fewest], f'{fewest} image')}, fewer than the "
            f"processes that share them; use trainer.devices={sizes[fewest]} or fewer, or add images"
        )


def check_single_images(config: Config, data: ImageData, model: nn.Module, phases: Sequence[Phase], size: int) -> None:
    """Batches of a single image, where there have to be some, must be something that the network can be trained on.

    Raises:
        ConfigError: batch norm sees a single value a channel in one of the phases, or there is nothing to mix with.
    """
    sizes = _batches(config, data)
    if 1 not in sizes:
        return
    if config.augment.mixup or config.augment.cutmix:
        raise ConfigError(
            f"augment.mixup={config.augment.mixup:g} augment.cutmix={config.augment.cutmix:g}: {_alone(config, data)}, "
            "and there is nothing to mix it with; switch both off, or add images"
        )
    for phase in phases:
        if phase.logistic is None and not _takes_one(model, phase, size):
            raise ConfigError(
                f"batch_size={config.batch_size}: {_alone(config, data)}, and {config.backbone.name} has batch norm "
                f"that cannot be trained on one at {size} pixels; use "
                f"{'batch_size=2 or more' if config.batch_size == 1 else 'more images'}, or bn=eval"
            )


def notes(config: Config, data: ImageData, phases: Sequence[Phase]) -> list[str]:
    """What is too little to rely on, and the way out, in a sentence each."""
    found = []
    if (images := len(data.val)) < FEW_VALIDATION:
        split_off = " (dataset.val_share, where they are split off)" if hasattr(config.dataset, "val_share") else ""
        found.append(
            f"{_count(images, 'validation image')}: each is {100 / images:.3g} points of val acc, which tells little "
            f"of which epoch or setting is better; use more{split_off}"
        )
    found += _steps_note(config, data, _trained(phases), passes(config, data, phases))
    if few := few_of_a_class(data):
        found.append(f"fewer than {FEW_OF_A_CLASS} training images: {few}; add images, or leave such a class out")
    return found


def facts(config: Config, data: ImageData, phases: Sequence[Phase]) -> dict[str, str]:
    """What a comparison has to know of this, as tags of the run."""
    found = {f"images.{name}": str(len(split)) for name, split in (("train", data.train), ("val", data.val))}
    if rare := few_of_a_class(data):
        found["images.rare"] = rare
    trained, each_epoch = _trained(phases), passes(config, data, phases)
    return found | ({"steps": str(steps_of(config, data, trained, each_epoch))} if trained else {})


def _steps_note(config: Config, data: ImageData, trained: Sequence[Phase], passes: int) -> list[str]:
    """What is done about few steps, or what to do, in a sentence; `trained` are the phases that have steps."""
    once, steps = (steps_of(config, data, trained, each) for each in (1, passes))
    if passes > 1:
        return [
            f"{_count(len(data.train), 'training image')}: one pass an epoch would be {_count(once, 'optimizer step')} "
            f"in all, so each epoch makes {passes} passes: {steps} steps (trainer.min_steps=0: one pass)"
        ]
    if trained and steps < FEW_STEPS:
        return [
            f"{_count(steps, 'optimizer step')} in all, which is little training: use trainer.min_steps, more epochs "
            f"(now {config.epochs}) or a smaller batch_size (now {config.batch_size})"
        ]
    return []


def few_of_a_class(data: ImageData) -> str:
    """The classes that are rare in training, with their numbers, the rarest first; empty if none is."""
    counts = class_counts(data.train.labels, len(data.classes))
    few = sorted((count, name) for name, count in zip(data.classes, counts, strict=True) if count < FEW_OF_A_CLASS)
    named = ", ".join(f"{name} ({count})" for count, name in few[:_NAMED])
    return f"{named} and {len(few) - _NAMED} more classes" if len(few) > _NAMED else named


def steps_of(config: Config, data: ImageData, phases: Sequence[Phase], passes: int = 1) -> int:
    """Optimizer steps over these phases, with so many passes over the training images in an epoch."""
    each_epoch = -(-len(_batches(config, data, passes)) // config.trainer.accumulate)
    return sum(phase.epochs for phase in phases) * each_epoch


def passes(config: Config, data: ImageData, phases: Sequence[Phase]) -> int:
    """Passes over the training images in an epoch: as many as `trainer.min_steps` needs, over all phases."""
    trained, wanted = _trained(phases), config.trainer.min_steps
    if not trained or not wanted:
        return 1
    # Enough samples for so many batches that one joins to another, and a pass more.
    samples = wanted * config.trainer.accumulate * (config.batch_size + 1)
    most = 2 + samples // -(-len(data.train) // processes(config))
    return 1 + bisect_left(range(1, most), wanted, key=lambda each: steps_of(config, data, trained, each))


def _trained(phases: Sequence[Phase]) -> list[Phase]:
    """Those with steps."""
    return [phase for phase in phases if phase.logistic is None]


def _batches(config: Config, data: ImageData, passes: int = 1) -> list[int]:
    """Images in each training batch of a process."""
    mixes = bool(config.augment.mixup or config.augment.cutmix)
    sampler = TrainSampler(
        len(data.train), config.batch_size, 0, world=processes(config), drop_last=mixes, passes=passes
    )
    return batch_sizes(len(sampler), config.batch_size)


def _alone(config: Config, data: ImageData) -> str:
    if config.batch_size == 1:
        return "every step sees a single image"
    each = " in each process" if processes(config) > 1 else ""
    return f"{data.name} has a single training image{each}"


def _takes_one(model: nn.Module, phase: Phase, size: int) -> bool:
    """Whether a step of the phase on one image works; the network's buffers stay as they are."""
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    trained = [parameter.requires_grad for parameter in model.parameters()]
    freezing.train_only(model, phase.parameters)
    freezing.eval_frozen(model.train(), phase.batch_norm)
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            model(torch.zeros(1, 3, size, size))
    except ValueError:  # "Expected more than 1 value per channel when training"
        return False
    finally:
        for name, buffer in model.named_buffers():
            buffer.copy_(kept[name])
        for parameter, flag in zip(model.parameters(), trained, strict=True):
            parameter.requires_grad_(flag)
        model.train()
    return True


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
