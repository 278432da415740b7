"""Files of weights: read without running code from them, and what they say of the network that they belong to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from thawlab.backbones import pickled, weight_names
from thawlab.backbones.file_kinds import is_safetensors, not_weights


@dataclass(frozen=True)
class Weights:
    """What a file holds.

    Attributes:
        state: a state_dict under the network's own names.
        architecture: of the network, if the file says so, as those do that a run keeps.
        extended_by: the strategy whose parts are among the weights.
        notes: what the user should know of how they were found in the file.
    """

    state: dict[str, Tensor]
    architecture: str | None = None
    extended_by: str | None = None
    notes: tuple[str, ...] = ()

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


def read_weights(path: Path, key: str, own: Mapping[str, Tensor]) -> Weights:
    """Weights from safetensors, or from what torch.save wrote; code in the file is never run.

    Args:
        path: the file.
        key: the setting that named it, for messages.
        own: state_dict of the network that they are for. Wrappings and prefixes, whatever they are called, are taken
            off where that makes the file's names and shapes the network's.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it holds something else; the message says what.
    """
    told = f"{key}={path}"
    if not path.exists():
        raise FileNotFoundError(f"{told}: no such file")
    if meaning := not_weights(path):
        raise ValueError(f"{told}: {meaning}")
    content = _content(path, told)
    found = weight_names.find(content, own)
    if found is None:
        raise ValueError(f"{told}: holds no state_dict (names to tensors){_holds(content)}")
    facts: Mapping[str, Any] = content if isinstance(content, Mapping) else {}
    architecture, extension = facts.get("architecture"), facts.get("extension")
    return Weights(
        {name: value.float() if value.is_floating_point() else value for name, value in found.state.items()},
        architecture if isinstance(architecture, str) else None,
        str(extension.get("name")) if isinstance(extension, Mapping) else None,
        tuple(_notes(told, found)),
    )


def _content(path: Path, told: str) -> Any:
    try:
        return load_file(path) if is_safetensors(path) else pickled.load(path)
    except SafetensorError as error:
        raise ValueError(
            f"{told}: damaged or incomplete safetensors ({error}); download or copy the file again"
        ) from error
    except pickled.NotWeightsError as error:
        raise ValueError(f"{told}: {error}") from error


def _holds(content: object) -> str:
    if isinstance(content, pickled.Skipped):
        return " but a whole object, which would have to run code to be loaded; save its state_dict instead"
    if isinstance(content, Mapping) and content:
        keys = [str(name) for name in content]
        return f" but {', '.join(keys[:5])}{', …' if len(keys) > 5 else ''}; name the file with the weights"
    return "; name the file with the weights"


def _notes(told: str, found: weight_names.Found) -> Iterator[str]:
    if found.others:
        others = ", ".join(place or "the top" for place in found.others)
        yield f"{told}: these weights are there more than once; {found.place or 'the top'} is taken, not {others}"
    elif found.left and found.matching:
        names = ", ".join(found.left[:3]) + (", …" if len(found.left) > 3 else "")
        yield f"{told}: {found.place} is the network; what stands beside it is left out ({names})"
