"""Let `import torchvision` work where its compiled operators cannot be loaded.

PyPI's torchvision is built for CUDA. Beside a CPU-only torch its library fails to load, and the import then dies on
operators that image classification never calls. timm, torchmetrics and Lightning all import torchvision.
"""

from importlib.abc import MetaPathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Kept referenced: torch drops the definitions when the library object is collected.
_definitions: list[Any] = []


class BeforeTorchvision(MetaPathFinder):
    """Finds nothing; declares the missing operators just before torchvision is first imported.

    An import hook, because the order of imports in other people's scripts is not ours to choose, and because importing
    torch here would make every command slow.
    """

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname == "torchvision" and not _definitions:
            _definitions.append(None)  # find_spec below asks this finder again
            declare_missing_operators()


def declare_missing_operators() -> None:
    """Declare the two operators that importing torchvision needs, if its own library does not load."""
    import torch

    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    try:
        for library in Path(spec.origin).parent.glob("_C*.so"):
            torch.ops.load_library(str(library))
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _definitions.append(library)
