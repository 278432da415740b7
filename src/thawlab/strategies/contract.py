"""What a module `strategies/<name>.py` provides, beside the values of its settings in `conf/strategy/<name>.yaml`."""

from typing import Protocol, TypeVar, runtime_checkable

from thawlab.config.plugins import Plugins
from thawlab.config.schema import Section
from thawlab.strategies.phases import Layers, Phase

S = TypeVar("S", bound=Section)
S_contra = TypeVar("S_contra", bound=Section, contravariant=True)


class Strategy(Protocol[S]):
    """How training moves through the layers."""

    @property
    def PAPER(self) -> str:
        """Where it was published."""
        ...

    @property
    def Settings(self) -> type[S]:
        """Its keys, typed; `name` is the module's name, as a Literal."""
        ...

    def phases(self, layers: Layers, settings: S, epochs: int, /) -> list[Phase]:
        """What is trained when, at which rates, in so many epochs over all phases.

        Raises:
            ValueError: the layers or the epochs do not suit it.
        """
        ...


@runtime_checkable
class ExtendsNetwork(Protocol):
    """A strategy that changes the network itself before its phases are planned."""

    @property
    def EXTENSION(self) -> str:
        """Name of a module of `strategies/extensions`."""
        ...


@runtime_checkable
class NeedsSourceClassifier(Protocol):
    """A strategy that goes on using the classifier that the weights came with."""

    @property
    def NEEDS_SOURCE_CLASSIFIER(self) -> bool:
        """Whether it does."""
        ...


@runtime_checkable
class MeasuresGradients(Protocol[S_contra]):
    """A strategy that may ask for `Layers.relative_gradients`, which are measured on training images."""

    def measures_gradients(self, settings: S_contra, /) -> bool:
        """Whether it does with these settings."""
        ...


STRATEGIES: Plugins[Strategy[Section]] = Plugins(
    "strategy", "strategy.name", "thawlab.strategies", Strategy, helpers=("phases",)
)
