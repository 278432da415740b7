"""The source's classifier beside the new head: kept and trained along by LwF and Co-Tuning, and left out at the end.

The model's forward pass does not call it: a regulariser does, on the features that the head is given.
"""

from dataclasses import replace
from typing import Any

from torch import nn

from thawlab.backbones.linear_head import linear_head
from thawlab.backbones.stages import Stage
from thawlab.extensions.context import Context
from thawlab.strategies.phases import Layers

_NAME = "source_classifier"


def extend(model: nn.Module, layers: Layers, settings: Any, context: Context) -> Layers:
    """Add `model.source_classifier`, a linear layer with the source's weights, as a part beside backbone and head.

    Raises:
        ValueError: the weights came without a classifier, or the network's head is not one linear layer of its width.
    """
    head = _head(model, context.strategy)
    source = context.source_classifier
    if source is None:
        raise ValueError(
            f"strategy={context.strategy}: needs the classifier that the weights were trained with, and these weights "
            "have none; use pretrained weights with their classifier, or strategy=finetune"
        )
    classes, features = source["weight"].shape
    if features != head.in_features:
        raise ValueError(
            f"strategy={context.strategy}: the weights' classifier takes {features} features, and this network gives "
            f"{head.in_features}; use weights of this architecture as it is"
        )
    added = nn.Linear(features, classes, bias="bias" in source)
    added.load_state_dict(dict(source))
    model.add_module(_NAME, added)
    part = Stage(_NAME, tuple(f"{_NAME}.{name}" for name, _ in added.named_parameters()))
    return replace(layers, beside=(*layers.beside, part))


def export(model: nn.Module) -> None:
    """Take it out again."""
    delattr(model, _NAME)


def _head(model: nn.Module, strategy: str) -> nn.Linear:
    try:
        head = linear_head(model)
    except ValueError as error:
        raise ValueError(
            f"strategy={strategy}: needs a network whose classifier is one linear layer, and of this one {error}; "
            "use another backbone, or strategy=finetune"
        ) from error
    if not isinstance(head, nn.Linear):
        raise ValueError(
            f"strategy={strategy}: needs a classifier that is a linear layer, and this network's is a convolution; "
            "use another backbone, or strategy=finetune"
        )
    return head
