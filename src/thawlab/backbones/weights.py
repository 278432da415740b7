"""A timm network for the user's classes, with weights from the package, the hub, a file, or none."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from timm.data.config import resolve_data_config
from torch import Tensor, nn

from thawlab.backbones import hub
from thawlab.backbones.bundled import timm_names, weights_file
from thawlab.backbones.freezing import digest_of
from thawlab.backbones.linear_head import linear_head, rows
from thawlab.backbones.stages import head_parameters
from thawlab.backbones.weight_files import read_weights
from thawlab.backbones.weight_loading import head_entries, load
from thawlab.config.nearest import nearest


@dataclass(frozen=True)
class Network:
    """A network and where it comes from.

    Attributes:
        model: the timm model with a new head for the target classes.
        weights: where its weights come from: "random", "bundled:…", "hub:…", "file:…" or "run:…".
        weights_digest: digest of all weights but the head's.
        options: what timm created the model with.
        source_classifier: weight (source classes, features) and, mostly, bias of the classifier that the weights were
            trained with; None where it was not asked for, they have none, or it is not one linear layer.
        notes: what the user should know of how the weights were found in their file.
        preprocessing: what these weights expect of images: input_size, mean, std, interpolation, crop_pct, crop_mode.
    """

    model: nn.Module
    weights: str
    weights_digest: str
    preprocessing: dict[str, Any]
    options: dict[str, Any]
    source_classifier: Mapping[str, Tensor] | None = None
    notes: tuple[str, ...] = ()


def build(
    name: str,
    classes: int,
    *,
    pretrained: bool,
    bundled: str | None = None,
    checkpoint_path: str | None = None,
    image_size: int | None = None,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    origin: str | None = None,
    source_classifier: bool = False,
) -> Network:
    """Build a timm network with a new head.

    Args:
        name: timm architecture, or architecture.tag for certain pretrained weights.
        classes: outputs of the new head.
        pretrained: load the bundled package's weights if one is named, else the hub's.
        bundled: package that ships weights for this architecture.
        checkpoint_path: local weights of the same architecture; they go before any other.
        drop_rate: dropout before the head.
        drop_path_rate: stochastic depth.
        origin: what the user knows the checkpoint as, if not by its path.
        source_classifier: keep the classifier that the weights were trained with.
        image_size: pixels a side, for networks whose weights depend on it (position embeddings are resized).

    Raises:
        ValueError: the name, the weights or the image size cannot be used; the message says what can.
        FileNotFoundError: no such checkpoint.
    """
    check_name(name)
    source = _source(pretrained, bundled, checkpoint_path)
    dropping = {key: value for key, value in (("drop_rate", drop_rate), ("drop_path_rate", drop_path_rate)) if value}
    options: dict[str, Any] = {**dropping, **_fixed_size(name, image_size), "num_classes": classes}
    model = create(name, source == "hub", options)
    draw_head(model)
    state, notes = _fill(model, name, source, bundled, checkpoint_path, origin)
    if source == "hub" and source_classifier:  # a second time, from the cache, with the classes it was trained on
        state = timm.create_model(name, pretrained=True).state_dict()
    label = {"bundled": bundled, "file": checkpoint_path, "hub": _tag(model, name), "random": ""}[source]
    return Network(
        model=model,
        weights=origin or (f"{source}:{label}" if label else source),
        weights_digest=digest_of(_without_head(model)),
        preprocessing=resolve_data_config({}, model=model),
        options=options,
        source_classifier=_classifier_in(state, model) if source_classifier else None,
        notes=notes,
    )


def _fixed_size(name: str, image_size: int | None) -> dict[str, int]:
    """The image size as an option of the network, where it has to know it."""
    return {"img_size": image_size} if image_size is not None and has_fixed_size(name) else {}


def _without_head(model: nn.Module) -> dict[str, Tensor]:
    head = head_entries(model)
    return {name: value for name, value in model.state_dict().items() if name not in head}


def _fill(
    model: nn.Module, name: str, source: str, bundled: str | None, checkpoint_path: str | None, origin: str | None
) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """Load the weights of a file or a package into the model, and return them with notes; none from other sources."""
    if source == "file":
        path, key = Path(str(checkpoint_path)).expanduser(), "backbone.checkpoint_path"
        stored, told = read_weights(path, key, model.state_dict()), f"{key}={origin or path}"
        stored.check(name, told)
        load(model, stored.state, told)
        return stored.state, stored.notes
    if source == "bundled":
        path, key = weights_file(str(bundled), name.partition(".")[0]), "backbone.bundled"
        state = timm_names(read_weights(path, key, {}).state, model.state_dict())
        load(model, state, f"{key}={bundled}")
        return state, ()
    return {}, ()


def _classifier_in(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor] | None:
    """Weight and bias of the classifier in a state_dict of the same architecture as the model."""
    try:
        head = linear_head(model)
    except ValueError:
        return None
    prefix = next(path for path, module in model.named_modules() if module is head) + "."
    found = {name: state[prefix + name] for name in ("weight", "bias") if prefix + name in state}
    return rows(found) if "weight" in found else None


def check_name(name: str) -> None:
    """Raise ValueError unless timm knows the architecture and, if one is given, the pretrained tag."""
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = ", ".join(nearest(architecture, timm.list_models())) or "none"
        raise ValueError(f"backbone={name}: timm has no such architecture; nearest: {near}")
    tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise ValueError(f"backbone={name}: {architecture} has no such weights; tags: {', '.join(tags) or 'none'}")


def _source(pretrained: bool, bundled: str | None, checkpoint_path: str | None) -> str:
    if checkpoint_path is not None:
        return "file"
    if not pretrained:
        return "random"
    return "bundled" if bundled else "hub"


def has_fixed_size(name: str) -> bool:
    """Whether timm has to be told the size of the images when it builds this network."""
    config = timm.get_pretrained_cfg(name) or timm.get_pretrained_cfg(name.partition(".")[0])
    return bool(config and config.fixed_input_size)


def create(name: str, from_hub: bool, options: dict[str, Any]) -> nn.Module:
    """Let timm build a network.

    Raises:
        ValueError: it cannot be built with these options, or its weights cannot be fetched.
    """
    if from_hub:
        hub.require(name)
    try:
        return timm.create_model(name, pretrained=from_hub, **options)
    except (TypeError, AssertionError) as error:
        raise ValueError(f"image_size={options.get('img_size')}: {name} cannot be built for it ({error})") from error
    except (OSError, RuntimeError) as error:
        if not from_hub:
            if "img_size" in options:  # sizes that come out as less than nothing
                raise ValueError(
                    f"image_size={options['img_size']}: {name} cannot be built for it ({error})"
                ) from error
            raise
        raise hub.unreachable(name, error) from error


def draw_head(model: nn.Module) -> None:
    """Draw the head's linear layers anew from torch's own initialisation, U(±1/√inputs).

    Architectures initialise their classifier for training all from scratch on many classes. EfficientNets scale it by
    the number of outputs: for 10 classes that is 11 times as wide, and the first epoch of fine-tuning goes into
    undoing the damage that its gradients do to the pretrained stages.
    """
    head = set(head_parameters(model))
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and f"{path}.weight" in head:
            module.reset_parameters()


def _tag(model: nn.Module, name: str) -> str:
    config: Any = getattr(model, "pretrained_cfg", {})
    tag = config.get("tag") if isinstance(config, Mapping) else None
    return f"{name.partition('.')[0]}.{tag}" if tag else name
