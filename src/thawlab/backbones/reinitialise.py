"""Transfer depth: keep the pretrained weights of the first stages, start the others from random weights."""

from collections.abc import Collection

import timm
import torch
from torch import nn


def reinitialise(model: nn.Module, name: str, parameters: Collection[str], options: dict) -> None:
    """Give the named parameters, and the buffers beside them, the architecture's own initial values.

    They are taken from a fresh model of the same architecture, drawn from torch's random state: that is the only
    initialisation that is sure to be the architecture's own (Yosinski et al. 2014 randomise the upper layers so).

    Args:
        model: changed in place.
        name: its timm architecture.
        parameters: names of the parameters to draw anew.
        options: what the model was created with, its number of classes included.
    """
    if not parameters:
        return
    fresh = timm.create_model(name.partition(".")[0], pretrained=False, **options).state_dict()
    drawn = set(parameters)
    with torch.no_grad():
        for path, module in model.named_modules():
            prefix = f"{path}." if path else ""
            own = {prefix + key for key, _ in module.named_parameters(recurse=False)}
            values = dict(module.named_parameters(prefix=path, recurse=False))
            if own and own <= drawn:  # statistics belong to the layer whose parameters are all new
                values |= dict(module.named_buffers(prefix=path, recurse=False))
            for key, value in values.items():
                if (key in drawn or key not in own) and key in fresh:
                    value.copy_(fresh[key])
