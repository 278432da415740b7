"""Pretrained weights from the hub: found in the local cache, or the hub can be reached, or it is said at once."""

from typing import Any

import timm
from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.utils import get_session

# Both names under which timm stores weights on the hub, in the order in which it looks.
_FILES = ("model.safetensors", "pytorch_model.bin")
_SECONDS = 5.0


def require(name: str) -> None:
    """Return if the weights of this timm name can be had; the hub client would retry for most of a minute.

    Raises:
        ValueError: timm has no weights for the name, or they are not cached and the hub cannot be reached.
    """
    config: Any = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise ValueError(
            f"backbone.pretrained=true: timm has no weights for {name}; "
            "use backbone.checkpoint_path=FILE, or backbone.pretrained=false for random weights"
        )
    repository = config.hf_hub_id
    if not repository or any(isinstance(try_to_load_from_cache(repository, file), str) for file in _FILES):
        return
    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS)
    except Exception as error:  # the client's errors have changed with its HTTP library; any of them means "no"
        raise unreachable(name, error) from error


def unreachable(name: str, error: Exception) -> ValueError:
    """The message for weights that cannot be had, with the ways out."""
    return ValueError(
        f"backbone={name}: its pretrained weights are not in the local cache, and the hub cannot be reached "
        f"({type(error).__name__}). Three ways out: connect this machine and run again; "
        "backbone.checkpoint_path=FILE with weights you have; backbone.pretrained=false for random weights. "
        "No download is needed for backbone=efficientnet_lite0, efficientnet_lite1 and efficientnet_lite2"
    )
