"""Small networks, frozen and fitted as a run does it; the fixtures `tiny_data`, `loaders` and `fit` are in conftest."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import pytorch_lightning as pl
import timm
import torch
import yaml
from torch import Tensor, nn

from thawlab.backbones import freezing
from thawlab.backbones import stages as ruler
from thawlab.config.schema import Trainer as TrainerSettings
from thawlab.launch.search_path import conf_dir
from thawlab.strategies.phases import ParameterGroup, Phase, Schedule
from thawlab.training.classifier import Classifier, Recipe

CLASSES = ("dark", "grey", "bright")
SIZE = 32  # pixels


def small(name: str, **options: Any) -> nn.Module:
    """A network of timm for three classes, the same at every call."""
    torch.manual_seed(0)
    if timm.get_pretrained_cfg(name).fixed_input_size:  # type: ignore[union-attr]
        options["img_size"] = SIZE
    return timm.create_model(name, num_classes=len(CLASSES), **options)


def freeze(model: nn.Module, depth: int | str, epochs: int = 1) -> Phase:
    """Freeze the model to the depth; the phase that trains the rest, all at one rate."""
    stages = ruler.stages(model)
    trained = stages[ruler.depth_to_count(depth, stages) :]
    groups = [ParameterGroup(stage.name, stage.parameters, 1.0) for stage in trained if stage.parameters]
    phase = Phase("finetune", epochs, (*groups, ParameterGroup("head", ruler.head_parameters(model), 1.0)))
    freezing.train_only(model, phase.parameters)
    return phase


def recipe(**changes: Any) -> Recipe:
    shape = {"name": "constant", "warmup": 0.0, "final": 0.0}
    shape |= {key: changes.pop(key) for key in ("warmup", "final") if key in changes}
    shape["name"] = changes.pop("scheduler", shape["name"])
    plain = {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.05, "schedule": Schedule(**shape)}
    plain |= {"label_smoothing": 0.0, "mixup": 0.0, "cutmix": 0.0, "seed": 3}
    return Recipe(**{**plain, **changes})


def trainer_settings(**changes: Any) -> TrainerSettings:
    """conf/trainer/cpu.yaml without worker processes."""
    values = yaml.safe_load((conf_dir() / "trainer" / "cpu.yaml").read_text())
    return TrainerSettings.model_validate({**values, "workers": 0, **changes})


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of everything in the model's state_dict."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> set[str]:
    """Names of what differs in any bit; both must hold the same names."""
    assert list(before) == list(after)
    return {name for name in before if not torch.equal(before[name], after[name])}


@dataclass
class Fit:
    """What one fit left behind."""

    module: Classifier
    trainer: pl.Trainer
    reports: list[tuple[int, dict[str, float]]] = field(default_factory=list)


Fitter = Callable[..., Fit]
