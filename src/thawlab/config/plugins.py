"""Modules that a name in the configuration stands for: a strategy, a dataset's source, an extension, a regulariser.

One new file in the package of its kind is all that it takes. What such a module has to provide is a Protocol in the
package's `contract.py`; `Plugins` finds the modules, loads one by its name and holds it to that Protocol.
"""

import importlib
import inspect
import pkgutil
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from thawlab.config.nearest import hint
from thawlab.config.schema import ConfigError

Contract = TypeVar("Contract")


@dataclass(frozen=True)
class Plugins(Generic[Contract]):
    """The modules of one kind.

    Attributes:
        kind: what such a module is called: "strategy".
        key: what its name is the value of, for messages: "strategy.name".
        package: where the modules lie: "thawlab.strategies".
        protocol: what each of them provides.
        helpers: modules of the package, beside `contract`, that are none of them.
    """

    kind: str
    key: str
    package: str
    protocol: type
    helpers: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """Names of all modules of this kind; none is loaded."""
        found = pkgutil.iter_modules(importlib.import_module(self.package).__path__)
        return [each.name for each in found if not each.ispkg and each.name not in ("contract", *self.helpers)]

    def load(self, name: str) -> Contract:
        """The module of this name.

        Raises:
            ConfigError: there is none, or it lacks something that the contract asks for.
        """
        if name not in (known := self.names()):
            raise ConfigError(f"{self.key}={name}: no such {self.kind}{hint(name, known)}")
        module = importlib.import_module(f"{self.package}.{name}")
        lacking = [member for member in members(self.protocol) if not hasattr(module, member)]
        if lacking:
            raise ConfigError(
                f"{self.key}={name}: {module.__file__} has no {', no '.join(lacking)}; a {self.kind} is a module as "
                f"{self.protocol.__name__} in {inspect.getfile(self.protocol)} describes it"
            )
        return cast("Contract", module)


def members(protocol: type) -> list[str]:
    """Names of what a Protocol asks for."""
    return [name for name in vars(protocol) if not name.startswith("_")]
