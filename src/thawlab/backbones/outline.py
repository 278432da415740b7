"""The outline of a network: its layers without the values of their weights, to ask what fits it."""

from typing import Any

import timm
import torch
from torch import nn

from thawlab.backbones.weights import check_name, create, has_fixed_size


def outline(name: str, image_size: int | None = None) -> nn.Module:
    """A timm network on torch's meta device, which takes no memory and no time to draw weights for.

    Raises:
        ValueError: timm does not know the name, or cannot build the network for this image size.
    """
    check_name(name)
    options: dict[str, Any] = {"num_classes": 10}
    if image_size is not None and has_fixed_size(name):
        options["img_size"] = image_size
    try:
        with torch.device("meta"):
            return create(name, False, options)
    except (RuntimeError, NotImplementedError, ValueError):  # values may be computed with while it is built
        return create(name, False, options)


def trained_size(name: str) -> int:
    """The image size that the network's weights were trained with, in pixels a side."""
    config = timm.get_pretrained_cfg(name) or timm.get_pretrained_cfg(name.partition(".")[0])
    return int(config.input_size[-1]) if config else 224


def check_forward(model: nn.Module, name: str, size: int, trained: int) -> None:
    """Send one image through: too small for the network, or a size that its grid does not divide, shows there.

    Args:
        model: the network.
        name: timm's name for it.
        size: pixels a side.
        trained: the size that its weights were trained with.

    Raises:
        ValueError: it cannot take images of this size.
    """
    patch = _patch(model)
    if patch and size % patch:
        below, above = size // patch * patch, (size // patch + 1) * patch
        near = f"{below} or {above}" if below else str(above)
        raise ValueError(f"image_size={size}: {name} cuts images into patches of {patch} pixels; use {near}")
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(torch.zeros(1, 3, size, size, device=next(model.parameters()).device))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"image_size={size}: {name} cannot take images of this size ({reason}); its weights were trained at "
            f"{trained}"
        ) from error
    model.train(was_training)


def _patch(model: nn.Module) -> int | None:
    """Pixels a side of the patches that a network cuts images into, if it says so and cannot pad."""
    embed = getattr(model, "patch_embed", None)
    size = getattr(embed, "patch_size", None)
    if not isinstance(size, tuple) or getattr(embed, "dynamic_img_pad", False) or not hasattr(model, "blocks"):
        return None
    return int(size[0])
