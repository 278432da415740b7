"""What many heads need of a network: its features, and each head as a run of its own would start it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thawlab.backbones import freezing
from thawlab.backbones.linear_head import as_vectors, linear_head, note_features
from thawlab.backbones.weights import build
from thawlab.config.schema import Config, ConfigError
from thawlab.data.images import Split
from thawlab.training.cache.feature_cache import Cached, FeatureCache
from thawlab.training.events import Events
from thawlab.training.heads.batches import Features
from thawlab.training.heads.optimizer import coupling
from thawlab.training.planning import seeded
from thawlab.training.preparation import Prepared, prepare

Context = Callable[[], AbstractContextManager[Any]]  # what a forward pass of the chosen precision runs in
Source = Callable[[Config, Prepared, torch.device, Context, Events], Features]
Start = tuple[Tensor, Tensor | None]  # weight and bias of a head

_COMPARED = 8  # images
_AT_ONCE = 256  # rows


def stored(config: Config, prepared: Prepared, device: torch.device, context: Context, events: Events) -> Features:
    """The features of all images from the feature cache; computed without it where it is not used."""
    cache = FeatureCache(config, prepared, events)
    model, data = prepared.network.model, prepared.data
    model.to(memory_format=torch.channels_last if config.trainer.channels_last else torch.contiguous_format)  # type: ignore[call-overload]
    fitted = cache.for_phase(0, prepared.loaders, device, context)
    tested = cache.for_test(device, context) if fitted else None
    if fitted is None or tested is None:
        return computed(config, prepared, device, context, events)
    model.eval()
    with torch.no_grad(), context():
        train, val = (_vectors(model, fitted, name) for name in ("train", "val"))
        test = _vectors(model, tested, "test")
    labels = [torch.from_numpy(split.labels).to(device) for split in (data.train, data.val)]
    views = fitted.features["train"].views
    return Features(train.unflatten(0, (views, -1)), labels[0], val, labels[1], test, cache.totals.metrics())


def _vectors(model: nn.Module, cached: Cached, name: str) -> Tensor:
    """What the classifier is given for each stored row of a split, (views · N, D)."""
    features, seen, found = cached.features[name], [], []
    hook = note_features(model, seen)
    try:
        for view in range(features.views):
            for positions in torch.arange(len(features)).split(_AT_ONCE):
                values, labels, _ = features.__getitems__([(view, position) for position in positions.tolist()])
                cached.cut.suffix(values)
                found.append(as_vectors(seen.pop(), len(labels)))
    finally:
        hook.remove()
    return torch.cat(found)


def computed(config: Config, prepared: Prepared, device: torch.device, context: Context, events: Events) -> Features:
    """The features of all images, from the network as it is: it is put in eval mode, and on the device."""
    data, model = prepared.data, prepared.network.model
    layout: Any = torch.channels_last if config.trainer.channels_last else torch.contiguous_format
    model.to(device, memory_format=layout).eval()  # type: ignore[call-overload]

    def of(split: Split, view: int | None, what: str) -> Tensor:
        batches = prepared.loaders.ordered_batches(split, view)
        seen: list[Tensor] = []
        found = []
        hook = note_features(model, seen)
        try:
            told = f"features of the {what} images"
            with events.progress(told, len(batches)) as advance, torch.no_grad(), context():
                for images, _, _ in batches:
                    model(images.to(device, memory_format=layout))
                    found.append(as_vectors(seen.pop(), len(images)))
                    advance(1)
        finally:
            hook.remove()
        return torch.cat(found)

    views = _views(config, prepared)
    train = [of(data.train, view, f"training ({(view or 0) + 1}/{len(views)})") for view in views]
    val, test = of(data.val, None, "validation"), of(data.test, None, "test")
    labels = [torch.from_numpy(split.labels).to(device) for split in (data.train, data.val)]
    return Features(torch.stack(train), labels[0], val, labels[1], test, {})


def _views(config: Config, prepared: Prepared) -> list[int] | list[None]:
    """The random views of each training image that are used; no view is the image as it is evaluated."""
    augment = config.augment
    mirrored = augment.hflip if prepared.data.hflip else 0.0
    changes = (mirrored, augment.vflip, augment.color_jitter, augment.auto_augment, augment.random_erasing)
    if augment.crop_scale == 1 and not any(changes):
        return [None]
    if isinstance(config.cache.views, int):
        return list(range(config.cache.views))
    row = len(prepared.data.train) * linear_head(prepared.network.model).weight.shape[1] * 4
    return list(range(max(min(prepared.phases[0].epochs * prepared.passes, int(config.cache.max_gb * 1e9 / row)), 1)))


def check(config: Config, prepared: Prepared, seeds: Sequence[int]) -> None:
    """Refuse what would make heads that are trained together differ from runs of their own.

    Raises:
        ConfigError: the head is not one linear layer, something random lies before it, the seeds have different
            features, or a step of the optimizer is not one of each head.
    """
    name, optimizer = config.backbone.name, config.optimizer
    try:
        linear_head(prepared.network.model)
    except ValueError as error:
        raise ConfigError(
            f"backbone={name}: only heads of one linear layer are trained together, and of this network {error}; "
            "use a sweep (-m) in the place of lists, or another backbone"
        ) from error
    random = [stage for stage in prepared.layers.stages[prepared.plan.transferred :] if stage.parameters]
    if len(seeds) > 1 and (random or prepared.weights == "random"):
        raise ConfigError(
            f"seed=[{','.join(map(str, seeds))}]: the network has random weights below its head, others for each seed, "
            f"so that the heads share no features; use a sweep: -m seed={','.join(map(str, seeds))}"
        )
    if coupling(optimizer.name, optimizer.options) == "all":
        raise ConfigError(
            f"optimizer={optimizer.name}: its step depends on all that it moves, so that heads would not be trained as "
            "each is alone; use another optimizer, or a sweep (-m) in the place of lists"
        )
    _compare(config, prepared)


def _compare(config: Config, prepared: Prepared) -> None:
    """The logits that a step of a run of its own would see must be those of the classifier on the features."""
    model, phase = prepared.network.model, prepared.phases[0]
    images = torch.cat([batch for batch, _ in prepared.loaders.plain_batches(_COMPARED)])
    seen: list[Tensor] = []
    head = linear_head(model)
    hook = note_features(model, seen)
    try:
        with torch.no_grad():
            freezing.train_only(model, phase.parameters)
            freezing.eval_frozen(model.train(), phase.batch_norm)
            trained = model(images)
            features = as_vectors(seen.pop(), len(images))
            plain = model.eval()(images)
    except ValueError as error:
        raise ConfigError(
            f"backbone={config.backbone.name}: only heads that are given one feature vector an image are trained "
            "together; use a sweep (-m) in the place of lists, or another backbone"
        ) from error
    finally:
        hook.remove()
    trained, plain = (each[0] if isinstance(each, tuple) else each for each in (trained, plain))
    expected = F.linear(features, head.weight.flatten(1), head.bias).detach()
    scale = float(expected.abs().max()) + 1e-6
    worst = max(float((each - expected).abs().max()) for each in (trained, plain))
    if not worst <= 1e-3 * scale:
        raise ConfigError(
            f"backbone={config.backbone.name}: its logits in training differ by {worst:.2g} from those of its "
            "classifier on its features in testing (does it drop features at random?); use a sweep (-m) in the place "
            "of lists, or another backbone"
        )


def starts(config: Config, prepared: Prepared, seeds: Sequence[int]) -> dict[int, Start]:
    """Weight and bias of the head, as a run with each of the seeds starts it.

    `prepared` is untouched as yet, and is that of `config`.
    """
    mine = _copy(linear_head(prepared.network.model))
    others = [seed for seed in seeds if seed != config.seed]
    found = {config.seed: mine}
    if not others:
        return found
    # The weights of the other layers are not read: that draws nothing, and takes longest. Checked all the same.
    cheap = _same(_drawn(config, prepared, config.seed), mine)
    for seed in others:
        if cheap:
            found[seed] = _drawn(config, prepared, seed)
        else:
            network = prepare(config.model_copy(update={"seed": seed}), prepared.weights_file).network
            found[seed] = _copy(linear_head(network.model))
    return found


def _drawn(config: Config, prepared: Prepared, seed: int) -> Start:
    backbone = config.backbone
    with seeded(seed, "weights"):
        network = build(
            backbone.name,
            len(prepared.data.classes),
            pretrained=False,
            image_size=config.image_size or prepared.data.image_size,
            drop_rate=backbone.drop_rate,
            drop_path_rate=backbone.drop_path_rate,
        )
    return _copy(linear_head(network.model))


def _same(one: Start, other: Start) -> bool:
    pairs = zip(one, other, strict=True)
    return all(a is b if a is None or b is None else torch.equal(a, b) for a, b in pairs)


def _copy(head: torch.nn.Linear | torch.nn.Conv2d) -> Start:
    return head.weight.detach().clone(), None if head.bias is None else head.bias.detach().clone()
