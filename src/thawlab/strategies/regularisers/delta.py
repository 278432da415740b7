"""DELTA: the distance from the source's feature maps, channel by channel (Li et al. 2019, arXiv:1901.09229).

alpha/2 · Σ attention · C / positions · ‖FM − FM⁰‖² over the batch's images, the stages that keep the source's weights
and are trained, and their C channels, and beta/2 · ‖w‖² of the head. FM⁰ comes from the network as it was when the
phase began, in eval mode. That is TLlib's form, with sums over the batch and attentions that add up to 1 in each
stage; without attention every channel has 1 / C. TLlib takes the maps from the last convolution of each stage and sets
that one's filters to zero for the attention; here both are done to the outputs of whole stages, which every
architecture has.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thawlab.strategies.delta import Settings
from thawlab.strategies.regularisers.channel_attention import channel_attention, channel_axis
from thawlab.strategies.regularisers.contract import PhaseStart, StepOutputs
from thawlab.strategies.regularisers.l2_sp import squared_norms
from thawlab.strategies.regularisers.taps import Tap, frozen_copy

NEEDS_IMAGES = True


def create(settings: Settings, start: PhaseStart) -> "FeatureMaps":
    """The term for the stages that are trained from now on; measures their channels' attention.

    The attention is that of the first `attention_images` training images, so these have to come in random order.

    Raises:
        ValueError: no stage of the network has one feature map as its output.
    """
    source = frozen_copy(start.model)
    images, labels = _first_images(start, settings.attention_images)
    maps = _feature_maps(source, _held_stages(start), images[:2])
    if not maps:
        raise ValueError(
            f"strategy={start.strategy}: no stage that it holds has a single feature map as its output in this "
            "network; use strategy=l2_sp, which holds the weights instead, or another backbone"
        )
    axes = channel_axis(start.model, maps)
    sizes = {path: (axes[path], value.shape[axes[path]]) for path, value in maps.items()}
    if settings.attention:
        attention = channel_attention(source, sizes, images, labels, start.progress)
    else:
        attention = {path: torch.full((size,), 1 / size, device=start.device) for path, (_, size) in sizes.items()}
    held = [
        _Held(
            Tap(start.model.get_submodule(path)),
            Tap(source.get_submodule(path), gradients=False),
            axes[path],
            attention[path],
        )
        for path in maps
    ]
    parameters = dict(start.model.named_parameters())
    head = [parameters[name] for name in start.layers.head if parameters[name].requires_grad]
    return FeatureMaps(source, held, head, settings.alpha, settings.beta)


@dataclass
class _Held:
    """A stage whose feature maps are held near the source's."""

    now: Tap
    then: Tap
    axis: int  # of its channels
    attention: Tensor  # (C,)

    def distance(self) -> Tensor:
        """Σ attention · C / positions · ‖FM − FM⁰‖² of the last pass, a scalar."""
        now, then = self.now.take(), self.then.take()
        squares = (now.float() - then.float()).square().movedim(self.axis, -1)  # (B, …, C)
        positions = squares[0, ..., 0].numel()
        weights = self.attention * len(self.attention) / positions
        return (squares.flatten(0, -2).sum(dim=0) * weights).sum()


class FeatureMaps:
    """The term."""

    def __init__(
        self, source: nn.Module, held: list[_Held], head: list[nn.Parameter], alpha: float, beta: float
    ) -> None:
        self.source = source
        self.held = held
        self.head = head
        self.alpha = alpha
        self.beta = beta

    def loss(self, seen: StepOutputs) -> Tensor:
        with torch.no_grad():
            self.source(seen.images)
        distance = self.alpha / 2 * torch.stack([stage.distance() for stage in self.held]).sum()
        size = squared_norms(self.head)
        return distance if size is None else distance + self.beta / 2 * size

    def close(self) -> None:
        for stage in self.held:
            stage.now.close()
            stage.then.close()


def _held_stages(start: PhaseStart) -> list[str]:
    """Paths of the modules of stages that are trained and start from the source's weights, without the stem."""
    layers = start.layers
    modules = {path for path, _ in start.model.named_modules()}
    held = layers.stages[max(1, layers.frozen) : layers.kept]
    return [stage.name for stage in held if stage.name in modules]


def _first_images(start: PhaseStart, count: int) -> tuple[Tensor, Tensor]:
    """The first training images and their labels, on the device."""
    images: list[Tensor] = []
    labels: list[Tensor] = []
    for batch, answers in start.training_batches():
        images.append(batch)
        labels.append(answers)
        if sum(map(len, labels)) >= count:
            break
    return torch.cat(images)[:count].to(start.device), torch.cat(labels)[:count].to(start.device)


@torch.no_grad()
def _feature_maps(model: nn.Module, paths: list[str], images: Tensor) -> dict[str, Tensor]:
    """Outputs of those of the modules that put out one map or one sequence of tokens for each image.

    Left out are stages with several outputs (HRNet, CrossViT), and those whose module is only a list.
    """
    taps = {path: Tap(model.get_submodule(path), gradients=False) for path in paths}
    model(images)
    outputs = {path: tap.take() for path, tap in taps.items()}
    for tap in taps.values():
        tap.close()
    return {
        path: output
        for path, output in outputs.items()
        if isinstance(output, Tensor) and output.ndim in (3, 4) and len(output) == len(images)
    }
