"""The names read from timm's source files are those that timm itself lists."""

import json
import subprocess
import sys

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import timm.optim

from thawlab.config import timm_names


def test_architectures_are_those_that_timm_lists():
    # In a process of its own: other tests register models with timm.
    program = "import thawlab, json, timm; print(json.dumps(timm.list_models()))"
    listed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert timm_names.architectures() == frozenset(json.loads(listed))


def test_optimizers_are_those_that_timm_lists():
    assert timm_names.optimizers() == frozenset(timm.optim.list_optimizers())
