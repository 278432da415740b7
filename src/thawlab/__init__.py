"""thawlab: which layers of a pretrained network to keep, freeze, tune or throw away."""

import sys
from importlib.metadata import PackageNotFoundError, version

from thawlab.backbones import torchvision_ops

try:
    __version__ = version("thawlab")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

sys.meta_path.insert(0, torchvision_ops.BeforeTorchvision())
