"""The typed schema: every key, its type, its limits and its kind. The values stand in conf/; nothing heavy is imported.

A dataset's and a strategy's own settings are typed beside their code; `launch/compose.py` brings all of them together.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from thawlab.config.kinds import Earlier, Kind, Mark, MeantEarlier, ShownBy


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


def _depth(value: object) -> object:
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
    lr: Annotated[float, Mark.PER_HEAD] = Field(gt=0)
    weight_decay: Annotated[float, Mark.PER_HEAD] = Field(ge=0)
    options: dict[str, Any]


class Scheduler(Section):
    """How the learning rate moves over the steps of a phase."""

    name: Literal["cosine", "constant", "linear", "onecycle"]
    warmup: ShareBelowOne
    final: Share


class Trainer(Section):
    """Where and how the steps are computed."""

    name: Annotated[Literal["auto", "cpu", "gpu", "ddp"], Kind.RUN]
    accelerator: Annotated[Literal["auto", "cpu", "gpu"], Kind.PLACE]
    devices: Annotated[Literal["auto"] | Annotated[int, Field(ge=1)], Kind.COMPUTING]
    precision: Annotated[Literal["auto", "bf16"] | Literal[16, 32], Kind.COMPUTING]
    accumulate: Annotated[int, Kind.RESULT] = Field(ge=1)
    clip: Annotated[Annotated[float, Field(gt=0)] | None, Kind.RESULT]
    ema: Annotated[Annotated[float, Field(gt=0, lt=1)] | None, Kind.RESULT]
    channels_last: Annotated[bool, Kind.COMPUTING]
    compile: Annotated[bool, Kind.COMPUTING]
    workers: Annotated[Literal["auto"] | Annotated[int, Field(ge=0)], Kind.PLACE]
    select: Annotated[Literal["auto", "acc", "loss", "balanced_acc", "last"], Kind.RESULT, Earlier("acc")]
    patience: Annotated[Annotated[int, Field(ge=1)] | None, Kind.RESULT]
    min_steps: Annotated[int, Kind.RESULT, Earlier(0), ShownBy("passes")] = Field(ge=0)
    images_gb: Annotated[float, Kind.PLACE] = Field(ge=0)


class Tracking(Section):
    """Where the run is recorded."""

    uri: str | None
    root: str
    checkpoint: bool


class Cache(Section):
    """Activations at the freeze boundary: whether they are kept, and how."""

    name: Annotated[Literal["auto", "off", "require"], Kind.RESULT]
    dir: Annotated[str, Kind.PLACE]
    max_gb: Annotated[float, Kind.PLACE] = Field(gt=0)
    views: Annotated[
        Literal["auto", "all"] | Annotated[int, Field(ge=1)],
        Kind.RESULT,
        MeantEarlier("auto", "all", without="cache.compute"),
    ]
    dtype: Annotated[Literal["auto", "float32", "float16", "bfloat16"], Kind.RESULT]
    compute: Annotated[Literal["auto", "float32", "bfloat16"], Kind.COMPUTING, Earlier("float32", hashed=False)]
    prefill: Annotated[Literal["all"] | list[Depth], Kind.PLACE]


class Sweep(Section):
    """How the jobs of a sweep are started."""

    warm: bool


class Config(Section):
    """One run."""

    backbone: Annotated[Backbone, Kind.RESULT]
    dataset: Annotated[Section, Kind.RESULT]  # the Settings of data/sources/<name>.py
    augment: Annotated[Augment, Kind.RESULT]
    strategy: Annotated[Section, Kind.RESULT]  # the Settings of strategies/<name>.py
    optimizer: Annotated[Optimizer, Kind.RESULT]
    scheduler: Annotated[Scheduler, Kind.RESULT]
    trainer: Trainer
    tracking: Annotated[Tracking, Kind.PLACE]
    cache: Cache
    sweep: Annotated[Sweep, Kind.PLACE]
    freeze: Annotated[Depth, Kind.RESULT]
    transfer: Annotated[Depth, Kind.RESULT]
    bn: Annotated[Literal["auto", "train", "eval"], Kind.RESULT]
    epochs: Annotated[int, Kind.RESULT] = Field(ge=1)
    batch_size: Annotated[int, Kind.RESULT] = Field(ge=1)
    image_size: Annotated[Annotated[int, Field(ge=8)] | None, Kind.RESULT]
    label_smoothing: Annotated[ShareBelowOne, Kind.RESULT, Mark.PER_HEAD]
    seed: Annotated[int, Kind.RUN, Mark.PER_HEAD] = Field(ge=0, lt=2**32)
    experiment_name: Annotated[str | None, Kind.PLACE]
    resume: Annotated[bool | str, Kind.PLACE]
    retry: Annotated[Literal["failed"] | None, Kind.PLACE]


class Derived(Section):
    """What settings come to on the network and the images at hand: recorded beside them."""

    transfer_depth: int
    freeze_depth: int
    freeze_stages: str
    weights: str
    passes: Annotated[int, Earlier(1)]
    preprocessing: dict[str, Any]
