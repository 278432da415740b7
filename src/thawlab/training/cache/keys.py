"""What an entry of the feature cache belongs to: everything that its numbers depend on, as plain data."""

import platform
from importlib.metadata import version

import torch

from thawlab.backbones import freezing
from thawlab.backbones.cut.find import Cut
from thawlab.config.schema import Config
from thawlab.data.decoding import DECODING, DRAFT_MARGIN
from thawlab.data.formats import versions
from thawlab.training.preparation import Prepared
from thawlab.training.trainer import precision_name

# Packages whose release may change an activation's bits: those that decode, transform and compute.
_PACKAGES = ("torch", "torchvision", "timm", "pillow", "numpy")


def augmentation(config: Config, prepared: Prepared) -> dict[str, object] | None:
    """The random changes to single training images; None where there are none."""
    augment = config.augment.model_dump(exclude={"name", "mixup", "cutmix"})
    augment["hflip"] = augment["hflip"] if prepared.data.hflip else 0.0
    nothing = {"crop_scale": 1, "auto_augment": None}
    return augment if any(value != nothing.get(key, 0) for key, value in augment.items()) else None


def key(
    config: Config, prepared: Prepared, cut: Cut, depth: int, split: str, views: int, device: torch.device
) -> dict[str, object]:
    """The key of the activations of a split above the first `depth` stages, the stem being one.

    Neither the head nor anything above the cut is part of it, nor how these are trained.
    """
    stages = prepared.layers.stages
    preprocessing = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in prepared.network.preprocessing.items()
        if name != "input_size"
    }
    return {
        "backbone": config.backbone.name,
        "depth": f"{depth - 1} {stages[depth - 1].name}" if depth > 1 else "stem",
        "dataset": prepared.data.name,
        "split": split,
        "views": views,
        "images": len(getattr(prepared.data, split)),
        "dataset_digest": prepared.data.digest,
        "weights_digest": freezing.digest_of(cut.state()),
        "options": {name: value for name, value in prepared.network.options.items() if name == "img_size"},
        "cut": [f"{each.call} {tuple(each.shape)} {each.dtype}" for each in cut.features],
        "size": prepared.image_size,
        "preprocessing": preprocessing,
        "draft": DRAFT_MARGIN if getattr(config.dataset, "draft", False) else None,
        "decoding": DECODING,
        "codecs": versions(),
        "augmentation": augmentation(config, prepared) if views > 1 else None,
        "precision": precision_name(config.trainer),
        "channels_last": config.trainer.channels_last,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu {platform.machine()}",
        "packages": {name: version(name) for name in _PACKAGES},
    }
