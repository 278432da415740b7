"""What an extension may know beside the network: changes of the network itself that a strategy asks for.

An extension is a module `strategies/extensions/<name>.py` with `extend(model, layers, settings, context) -> Layers`. It
changes the model in place, before the phases are planned, and returns the layers under the names that they have now.
With `export(model) -> None` it turns the trained model back, in place, into a plain one of timm's; without, the weights
that a run keeps are those of the extended model.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


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
