"""What a run needs before its first step: images, network, phases. Whatever cannot be run is found here."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from thawlab.backbones import stages as ruler
from thawlab.backbones.linear_head import check_features, check_head
from thawlab.backbones.outline import check_forward
from thawlab.backbones.weights import Network, build
from thawlab.config.schema import Config, ConfigError, name_of
from thawlab.data.datamodule import ImageDataModule
from thawlab.data.images import ImageData
from thawlab.data.sources.contract import SOURCES
from thawlab.strategies.contract import STRATEGIES, NeedsSourceClassifier
from thawlab.strategies.phases import Layers, Phase, Schedule
from thawlab.training import few_images
from thawlab.training.image_loaders import image_loaders, image_memory, image_workers
from thawlab.training.optimizers import create_optimizer
from thawlab.training.planning import Gradients, LayerSettings, Plan, plan, seeded
from thawlab.training.relative_gradients import fitted_head, relative_gradients

# How many training images the sizes of gradients are measured on.
GRADIENT_IMAGES = 256


@dataclass(frozen=True)
class Prepared:
    """All parts of a run, ready to train."""

    data: ImageData
    network: Network
    plan: Plan
    image_size: int
    loaders: ImageDataModule
    notes: tuple[str, ...]
    passes: int = 1  # over the training images in an epoch of steps
    weights_file: Path | None = None  # as `prepare` was given it

    @property
    def layers(self) -> Layers:
        """The network's stages and head."""
        return self.plan.layers

    @property
    def phases(self) -> tuple[Phase, ...]:
        """What is trained when."""
        return self.plan.phases

    @property
    def kept(self) -> int:
        """How many leading stages, the stem being one, start from the source's weights."""
        return len(self.layers.stages) if self.layers.kept is None else self.layers.kept

    @property
    def weights(self) -> str:
        """Where the weights come from that training starts with."""
        return self.network.weights if self.kept else "random"

    @property
    def frozen(self) -> int:
        """How many leading stages, the stem being one, no phase trains."""
        trained = frozenset().union(*(phase.parameters for phase in self.phases))
        return self.layers.stages_below(trained)

    @property
    def freeze_depth(self) -> int:
        """The freeze depth as a number of stages, 0…K."""
        return max(self.frozen - 1, 0)

    @property
    def transfer_depth(self) -> int:
        """The transfer depth as a number of stages, 0…K."""
        return max(self.plan.transferred - 1, 0)

    @property
    def frozen_names(self) -> list[str]:
        """Names of the frozen stages."""
        return [stage.name for stage in self.layers.stages[: self.frozen] if stage.parameters]


def prepare(config: Config, weights_file: Path | None = None) -> Prepared:
    """Load the images, build the network and plan the phases.

    Args:
        config: what is to be run.
        weights_file: the file that `backbone.checkpoint_path` stands for, where it names a run.

    Raises:
        ConfigError: something the user named does not exist or does not go together.
    """
    with user_mistakes():
        data = load_data(config)
        few_images.check_processes(config, data)
        size = config.image_size or data.image_size
        with seeded(config.seed, "weights"):
            network = _network(config, len(data.classes), size, weights_file)
        size = size or int(network.preprocessing["input_size"][-1])
        check_forward(network.model, config.backbone.name, size, network.preprocessing["input_size"][-1])
        _check_optimizer(config)
        loaders = image_loaders(config, data, network.preprocessing, size, phase_seed(config.seed, 0))
        wishes = LayerSettings(config.freeze, config.transfer, config.bn, config.epochs, config.seed)
        planned = plan(network, size, config.strategy, wishes, _gradients(loaders))
        _check_heads(planned, config, size)
        _check_prefill(network, config)
        few_images.check_single_images(config, data, planned.network.model, planned.phases, size)
        passes = few_images.passes(config, data, planned.phases)
        loaders.passes, loaders.memory = passes, image_memory(config, passes)
        loaders.workers, few_workers = image_workers(config, data, size, passes)
    prepared = Prepared(data, network, planned, size, loaders, data.notes, passes, weights_file)
    return replace(prepared, notes=(*data.notes, *network.notes, *few_workers, *_notes(config, prepared)))


def schedule_of(config: Config) -> Schedule:
    """The learning rate over the steps of a phase that has no schedule of its own."""
    return Schedule(config.scheduler.name, config.scheduler.warmup, config.scheduler.final)


def load_data(config: Config) -> ImageData:
    """The images of the chosen dataset."""
    return SOURCES.load(name_of(config.dataset)).load(config.dataset)


@contextmanager
def user_mistakes() -> Iterator[None]:
    """Let what cannot be used end in one message; what is raised elsewhere is a fault of the program's."""
    try:
        yield
    except ConfigError:
        raise
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from error


def _network(config: Config, classes: int, size: int | None, weights_file: Path | None) -> Network:
    backbone = config.backbone
    strategy = STRATEGIES.load(name_of(config.strategy))
    return build(
        backbone.name,
        classes,
        pretrained=backbone.pretrained,
        bundled=backbone.bundled,
        checkpoint_path=str(weights_file) if weights_file else backbone.checkpoint_path,
        origin=backbone.checkpoint_path if weights_file else None,
        source_classifier=isinstance(strategy, NeedsSourceClassifier) and strategy.NEEDS_SOURCE_CLASSIFIER,
        image_size=size,
        drop_rate=backbone.drop_rate,
        drop_path_rate=backbone.drop_path_rate,
    )


def _check_optimizer(config: Config) -> None:
    settings = config.optimizer
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2, 2))], "name": "check"}]
    create_optimizer(settings.name, groups, settings.lr, settings.options)


def _gradients(loaders: ImageDataModule) -> Gradients:
    """How the sizes of gradients are measured, should a strategy ask: on training images, with a head fitted."""

    def measure(network: Network, groups: Mapping[str, Sequence[str]]) -> Mapping[str, float]:
        batches = list(loaders.plain_batches(GRADIENT_IMAGES))
        with fitted_head(network.model, batches):
            return relative_gradients(network.model, groups, batches)

    return measure


def _check_heads(planned: Plan, config: Config, size: int) -> None:
    """A head that is solved for must be one linear layer, on one vector an image."""
    if any(phase.logistic for phase in planned.phases):
        chosen = hasattr(config.strategy, "solver")
        steps = "train the head by steps" + (" (strategy.solver=gradient)" if chosen else "")
        check_head(planned.network.model, name_of(config.strategy), steps)
        check_features(planned.network.model, size)


def _check_prefill(network: Network, config: Config) -> None:
    """Depths that the network does not have, before a run is recorded."""
    stages = ruler.stages(network.model) if config.cache.prefill else []
    for depth in config.cache.prefill if config.cache.prefill != "all" else []:
        ruler.depth_to_count(depth, stages, "cache.prefill")


def phase_seed(seed: int, phase: int) -> int:
    """The seed of a phase's order of images, augmentation, dropout and mixing: no phase repeats another's."""
    return int(np.random.SeedSequence([seed, phase]).generate_state(1)[0])


def _notes(config: Config, prepared: Prepared) -> Sequence[str]:
    random_from = 0 if prepared.weights == "random" else prepared.kept
    random = [stage.name for stage in prepared.layers.stages[random_from : prepared.frozen] if stage.parameters]
    few = [*_solved_note(config, prepared.phases), *few_images.notes(config, prepared.data, prepared.phases)]
    if not random:
        return few
    why = "backbone.pretrained=false" if random_from == 0 and prepared.kept else f"transfer={config.transfer}"
    return [*few, f"frozen with random weights, since {why}: {', '.join(random)}"]


def _solved_note(config: Config, phases: Sequence[Phase]) -> list[str]:
    """What plays no part where nothing is trained by steps: said, since one may have set it."""
    if any(phase.logistic is None for phase in phases):
        return []
    idle = [f"epochs={config.epochs}", f"augment={config.augment.name}", f"label_smoothing={config.label_smoothing:g}"]
    idle += [f"optimizer={config.optimizer.name}", f"scheduler={config.scheduler.name}"]
    trainer = config.trainer
    idle += [f"trainer.{name}={value:g}" for name in ("ema", "patience") if (value := getattr(trainer, name))]
    return [
        "the head is solved for, on the features of the plain images (strategy.solver=lbfgs), where "
        f"{', '.join(idle)} play no part; strategy.solver=gradient trains it by steps, where they do"
    ]
