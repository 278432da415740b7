"""What a module `strategies/extensions/<name>.py` provides: a change of the network itself that a strategy asks for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from torch import Tensor, nn

from thawlab.config.plugins import Plugins
from thawlab.strategies.phases import Layers

if TYPE_CHECKING:
    from thawlab.config.schema import Section

S = TypeVar("S", bound="Section", contravariant=True)


@dataclass(frozen=True)
class Context:
    """Facts about the run.

    Attributes:
        strategy: its name, for messages.
        image_size: pixels a side.
        source_classifier: `weight` (source classes, features) and, mostly, `bias` of the classifier that the weights
            came with; None where they have none.
    """

    strategy: str
    image_size: int
    source_classifier: Mapping[str, Tensor] | None


class Extension(Protocol[S]):
    """A change of the network."""

    def extend(self, model: nn.Module, layers: Layers, settings: S, context: Context, /) -> Layers:
        """Change the model in place, before the phases are planned; the layers under the names that they have then.

        Args:
            model: the network.
            layers: of the network as it is.
            settings: of the strategy that asks for the extension.
            context: what else it may know.

        Raises:
            ValueError: the network does not suit it.
        """
        ...


@runtime_checkable
class Exports(Protocol):
    """An extension that can be taken out again; of others the weights that a run keeps are the extended model's."""

    def export(self, model: nn.Module, /) -> None:
        """Turn the trained model back, in place, into a plain one of timm's."""
        ...


EXTENSIONS: "Plugins[Extension[Section]]" = Plugins(
    "extension", "EXTENSION", "thawlab.strategies.extensions", Extension
)
