"""From a composed configuration to a typed one, with every mistake named at once."""

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from thawlab.config import timm_names
from thawlab.config.nearest import hint, nearest
from thawlab.config.plugins import Plugins
from thawlab.config.schema import Config, ConfigError, Section
from thawlab.data.sources.contract import SOURCES, DatasetSource
from thawlab.strategies.contract import STRATEGIES, Strategy

# The groups whose settings are typed in a module of their own, named as the choice is.
OPEN: Mapping[str, Plugins[DatasetSource[Section]] | Plugins[Strategy[Section]]] = {
    "dataset": SOURCES,
    "strategy": STRATEGIES,
}
_OPEN_VALUE = "???"  # Hydra's word for a value that the user has to give


def parse(raw: Mapping[str, object]) -> Config:
    """The typed configuration of one run.

    Args:
        raw: plain nested values, as Hydra composed them.

    Raises:
        ConfigError: one line for each mistake: the key, the value, what is wrong and what to use.
    """
    mistakes = list(_missing(raw))
    values = dict(raw)
    models: dict[str, type[BaseModel]] = {}
    for group in OPEN:
        try:
            models[group] = settings_type(group, raw.get(group))
            values[group] = models[group].model_validate(raw[group])
        except ConfigError as error:
            mistakes.append(str(error))
            values[group] = Section()
        except ValidationError as error:
            mistakes.extend(_sentences(error, models[group], raw[group], f"{group}."))
            values[group] = Section()
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(mistakes + list(_sentences(error, Config, raw)))) from error
    mistakes += _cross_checks(config)
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return config


def plain(config: DictConfig) -> dict[str, Any]:
    """The composed configuration as plain values, interpolations resolved; `???` stays, to be named as missing.

    Raises:
        ConfigError: an interpolation names what is not there.
    """
    try:
        content: Any = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:  # ${…} of what is not there
        key = getattr(error, "full_key", None) or "configuration"
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{key}: {reason}; a text with ${{ in it is written as \\${{") from error
    return {str(key): value for key, value in content.items() if key not in ("hydra", "experiment")}


def settings_type(group: str, section: object) -> type[Section]:
    """The `Settings` class of the chosen dataset or strategy.

    Raises:
        ConfigError: there is no such choice.
    """
    name = section.get("name") if isinstance(section, Mapping) else section
    return OPEN[group].load(str(name)).Settings


def keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """All dotted keys of a typed section, those of its sections included."""
    found = []
    for key, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel) and nested is not Section:
            found += keys(nested, f"{prefix}{key}.")
        else:
            found.append(prefix + key)
    return found


def _cross_checks(config: Config) -> list[str]:
    mistakes = []
    if config.optimizer.name not in (_OPEN_VALUE, *timm_names.optimizers()):
        near = hint(config.optimizer.name, timm_names.optimizers())
        mistakes.append(f"optimizer.name={config.optimizer.name}: timm has no such optimizer{near}")
    if config.backbone.name.partition(".")[0] not in (_OPEN_VALUE, *timm_names.architectures()):
        near = hint(config.backbone.name, timm_names.architectures())
        mistakes.append(f"backbone.name={config.backbone.name}: timm has no such architecture{near}")
    if (config.augment.mixup or config.augment.cutmix) and config.batch_size % 2:
        mistakes.append(f"batch_size={config.batch_size}: mixup and cutmix pair images up; use an even number")
    if config.trainer.accelerator == "cpu" and config.trainer.precision == 16:
        mistakes.append("trainer.precision=16: half precision needs a GPU; use bf16 or 32 on the CPU")
    if config.trainer.name != "ddp" and config.trainer.devices not in (1, "auto"):
        mistakes.append(f"trainer.devices={config.trainer.devices}: several devices need trainer=ddp")
    return mistakes


def _sentences(error: ValidationError, model: type[BaseModel], raw: object, prefix: str = "") -> Iterator[str]:
    """One sentence for each key that is wrong; a union reports each of its members, so its lines are joined."""
    by_key: dict[tuple[str, ...], list[ErrorDetails]] = {}
    for detail in error.errors():
        by_key.setdefault(_key(detail["loc"], raw), []).append(detail)
    for path, details in by_key.items():
        key = prefix + ".".join(path)
        if details[0]["type"] == "extra_forbidden":
            yield f"{key}={_at(raw, path)}: no such key{hint(key, keys(model, prefix))}"
        elif details[0]["type"] == "missing":
            yield f"{key}: has no value; give one as {key}=…"
        elif _at(raw, path) == _OPEN_VALUE:
            continue  # said before
        else:
            expected = list(dict.fromkeys(_expected(detail) for detail in details))
            wrong = " or ".join([*expected[:1], *(each.removeprefix("use ") for each in expected[1:])])
            yield f"{key}={_show(_at(raw, path))}: {wrong}{_choices_hint(details, _at(raw, path))}"


def _key(location: tuple[int | str, ...], raw: object) -> tuple[str, ...]:
    """The part of pydantic's location that is keys of the configuration; the rest names members of a union."""
    path: list[str] = []
    for part in location:
        if path and not isinstance(_at(raw, tuple(path)), Mapping):
            break
        path.append(str(part))
    return tuple(path)


def _at(raw: object, path: tuple[str, ...]) -> object:
    for part in path:
        raw = raw.get(part) if isinstance(raw, Mapping) else None
    return raw


def _missing(raw: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    for key, value in raw.items():
        if isinstance(value, Mapping):
            yield from _missing(value, f"{prefix}{key}.")
        elif value == _OPEN_VALUE:
            yield f"{prefix}{key}: has no value; give one as {prefix}{key}=…"


def _expected(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "literal_error":
            return f"use {context['expected']}"
        case "int_type" | "int_from_float":
            return "use a whole number"
        case "float_type":
            return "use a number"
        case "bool_type":
            return "use true or false"
        case "string_type":
            return "use a text"
        case "none_required":
            return "use null"
        case "value_error":
            return str(context["error"])
        case "model_type" | "dict_type":
            return "this is a group; use GROUP=CHOICE, or GROUP.KEY=VALUE for one of its keys"
        case _:
            return detail["msg"].replace("Input should be", "use a value").replace("a value a valid", "a valid")


def _choices_hint(details: list[ErrorDetails], value: object) -> str:
    allowed = [
        choice.strip("'")
        for detail in details
        if detail["type"] == "literal_error"
        for choice in detail.get("ctx", {})["expected"].replace(" or ", ", ").split(", ")
    ]
    near = nearest(str(value), allowed, 1)
    return f"; nearest: {near[0]}" if near else ""


def _show(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
