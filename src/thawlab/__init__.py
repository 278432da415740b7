"""thawlab: which layers of a pretrained network to keep, freeze, tune or throw away."""

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import TYPE_CHECKING

from thawlab.backbones import torchvision_ops

if TYPE_CHECKING:
    from thawlab.api import ComparisonResult, ConfigError, Result, Results, RunError, compare, train

__all__ = ["ComparisonResult", "ConfigError", "Result", "Results", "RunError", "compare", "train"]

try:
    __version__ = version("thawlab")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

sys.meta_path.insert(0, torchvision_ops.BeforeTorchvision())


class _Package(ModuleType):
    """Keeps the function `thawlab.compare` where importing the package of that name would put the package."""

    def __setattr__(self, name: str, value: object) -> None:
        if name not in __all__ or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    """What Python programs use is imported when it is first asked for; `import thawlab` alone loads next to nothing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("thawlab.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
