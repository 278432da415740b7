"""The loaders of a run, as the configuration and the machine want them."""

from collections.abc import Mapping
from typing import Any

from thawlab.config.schema import Config
from thawlab.data.cpu_and_memory import auto_workers
from thawlab.data.datamodule import ImageDataModule
from thawlab.data.decoded_image_cache import ImageMemory
from thawlab.data.images import ImageData
from thawlab.data.shared_memory import fitting_workers
from thawlab.data.transforms import eval_transform, train_transform
from thawlab.system.process_rank import local_world_size


def image_workers(config: Config, data: ImageData, size: int, passes: int = 1) -> tuple[int, list[str]]:
    """How many processes decode images for this one, and a note if those are fewer than was asked for."""
    processes = local_world_size()
    wanted = auto_workers(processes) if config.trainer.workers == "auto" else config.trainer.workers
    images, image_bytes = max(len(data.train) * passes, len(data.val), len(data.test)), 3 * size * size * 4  # float32
    batch_bytes = min(_eval_batch_size(config), images) * image_bytes
    fitting, note = fitting_workers(wanted, processes, batch_bytes, images * image_bytes)
    return fitting, [note] if note else []


def _eval_batch_size(config: Config) -> int:
    return max(config.batch_size, 64)


def image_loaders(
    config: Config, data: ImageData, preprocessing: Mapping[str, Any], size: int, seed: int
) -> ImageDataModule:
    """The images in batches: augmented to train on, as they are to validate and test on."""
    augment = config.augment
    mirrored: dict[str, Any] = {"hflip": augment.hflip if data.hflip else 0.0, "vflip": augment.vflip}
    train = train_transform(
        preprocessing,
        size,
        crop_scale=augment.crop_scale,
        color_jitter=augment.color_jitter,
        auto_augment=augment.auto_augment,
        random_erasing=augment.random_erasing,
        **mirrored,
    )
    return ImageDataModule(
        data,
        train,
        eval_transform(preprocessing, size),
        batch_size=config.batch_size,
        eval_batch_size=_eval_batch_size(config),
        workers=image_workers(config, data, size)[0],
        seed=seed,
        drop_last=bool(augment.mixup or augment.cutmix),
    )


def image_memory(config: Config, passes: int) -> ImageMemory:
    """Where decoded images are kept, if they are needed more than once."""
    again = config.epochs > 1 or passes > 1
    return ImageMemory(int(config.trainer.images_gb * 1e9) if again else 0, processes=local_world_size())
