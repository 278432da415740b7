"""The typed schema: every key, its type and its limits. The values stand in conf/; nothing heavy is imported here.

A dataset's and a strategy's own settings are typed beside their code; `launch/compose.py` brings all of them together.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class ConfigError(ValueError):
    """What the user asked for cannot be run; the message alone says what, where and the way out."""


class Section(BaseModel):
    """A group of settings: unknown keys and wrong types are refused, nothing has a default, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def name_of(settings: Section) -> str:
    """The name of a chosen dataset or strategy, which each of their `Settings` has as a Literal of its own."""
    return str(dict(settings)["name"])


Share = Annotated[float, Field(ge=0, le=1)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]


def _depth(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str) or value == "":
        raise ValueError("use a number of stages, none, stem, all, a stage's name, or a share such as 0.5")
    if isinstance(value, float) and not 0 <= value <= 1:
        raise ValueError("a share of the stages lies in [0, 1]; a number of stages is a whole number")
    if isinstance(value, int) and value < 0:
        raise ValueError("a number of stages is 0 or more")
    return value


Depth = Annotated[int | float | str, BeforeValidator(_depth)]


class Backbone(Section):
    """Which timm network, and where its weights come from."""

    name: str
    pretrained: bool
    bundled: str | None
    checkpoint_path: str | None
    drop_rate: ShareBelowOne
    drop_path_rate: ShareBelowOne


class Augment(Section):
    """Random changes to training images."""

    name: str
    crop_scale: float = Field(gt=0, le=1)
    hflip: Share
    vflip: Share
    color_jitter: float = Field(ge=0)
    auto_augment: str | None
    random_erasing: Share
    mixup: float = Field(ge=0)
    cutmix: float = Field(ge=0)


class Optimizer(Section):
    """An optimizer of timm's factory."""

    name: str
    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    options: dict[str, Any]


class Scheduler(Section):
    """How the learning rate moves over the steps of a phase."""

    name: Literal["cosine", "constant", "linear", "onecycle"]
    warmup: ShareBelowOne
    final: Share


class Trainer(Section):
    """Where and how the steps are computed."""

    name: Literal["auto", "cpu", "gpu", "ddp"]
    accelerator: Literal["auto", "cpu", "gpu"]
    devices: Literal["auto"] | Annotated[int, Field(ge=1)]
    precision: Literal["auto", "bf16"] | Literal[16, 32]
    accumulate: int = Field(ge=1)
    clip: Annotated[float, Field(gt=0)] | None
    ema: Annotated[float, Field(gt=0, lt=1)] | None
    channels_last: bool
    compile: bool
    workers: Literal["auto"] | Annotated[int, Field(ge=0)]
    select: Literal["auto", "acc", "loss", "balanced_acc", "last"]
    patience: Annotated[int, Field(ge=1)] | None
    min_steps: int = Field(ge=0)
    images_gb: float = Field(ge=0)


class Tracking(Section):
    """Where the run is recorded."""

    uri: str | None
    root: str
    checkpoint: bool


class Cache(Section):
    """Activations at the freeze boundary: whether they are kept, and how."""

    name: Literal["auto", "off", "require"]
    dir: str
    max_gb: float = Field(gt=0)
    views: Literal["auto"] | Annotated[int, Field(ge=1)]
    dtype: Literal["auto", "float32", "float16", "bfloat16"]
    prefill: Literal["all"] | list[Depth]


class Config(Section):
    """One run."""

    backbone: Backbone
    dataset: Section  # the Settings of data/sources/<name>.py
    augment: Augment
    strategy: Section  # the Settings of strategies/<name>.py
    optimizer: Optimizer
    scheduler: Scheduler
    trainer: Trainer
    tracking: Tracking
    cache: Cache
    freeze: Depth
    transfer: Depth
    bn: Literal["auto", "train", "eval"]
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    image_size: Annotated[int, Field(ge=8)] | None
    label_smoothing: ShareBelowOne
    seed: int = Field(ge=0, lt=2**32)
    experiment_name: str | None
    resume: bool | str
