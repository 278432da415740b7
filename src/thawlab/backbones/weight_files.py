"""Files of weights: read without running code from them, and what they say of the network that they belong to."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Weights:
    """What a file holds.

    Attributes:
        state: a state_dict under the network's own names.
        architecture: of the network, if the file says so, as those do that a run keeps.
        extended_by: the strategy whose parts are among the weights.
    """

    state: dict[str, Tensor]
    architecture: str | None = None
    extended_by: str | None = None

    def check(self, name: str, origin: str) -> None:
        """Refuse weights that say they are another network's, even where their shapes would fit.

        Raises:
            ValueError: of another architecture than the timm name, or with parts that a plain network lacks.
        """
        asked = name.partition(".")[0]
        if self.architecture is not None and self.architecture.partition(".")[0] != asked:
            raise ValueError(
                f"{origin}: weights of {self.architecture}, not of {asked}; use backbone={self.architecture}, "
                "or other weights"
            )
        if self.extended_by is not None:
            raise ValueError(
                f"{origin}: these weights belong to a network with the parts that strategy={self.extended_by} added; "
                "use those of a run with another strategy"
            )


def read_weights(path: Path, key: str) -> Weights:
    """Weights from safetensors, or from what torch.save wrote; code in the file is never run.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{key}={path}: no such file")
    content = _content(path, key)
    facts = content if isinstance(content, Mapping) else {}
    architecture, extension = facts.get("architecture"), facts.get("extension")
    for wrapper in ("state_dict", "model", "state_dict_ema"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{key}={path}: holds no state_dict (names to tensors)")
    state = {str(name): value for name, value in content.items()}
    for prefix in ("module.", "model."):  # as left by DistributedDataParallel and by a LightningModule
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return Weights(
        state,
        architecture if isinstance(architecture, str) else None,
        str(extension.get("name")) if isinstance(extension, Mapping) else None,
    )


def _content(path: Path, key: str) -> Any:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{key}={path}: not a safetensors file ({error})") from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler stumbled on
        raise ValueError(
            f"{key}={path}: not weights that can be loaded without running code from the file; "
            "save a state_dict, as safetensors or with torch.save"
        ) from error
