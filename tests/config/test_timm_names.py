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


def test_nearest_names_come_best_first_and_far_ones_not_at_all():
    assert timm_names.nearest("resnet5", ["resnet50", "resnet18", "vgg16"])[0] == "resnet50"
    assert timm_names.nearest("zzz", ["resnet50", "vgg16"]) == []
    assert len(timm_names.nearest("resnet", [f"resnet{i}" for i in range(10)], count=3)) == 3
