"""How much each channel of a stage's output matters to a network: how the loss rises without it."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thawlab.strategies.regularisers.contract import Progress, no_progress

_IMAGES = 32  # in a forward pass, without the copies
_ROWS = 256  # in what follows a stage: copies of the images, each without another channel


def channel_axis(model: nn.Module, maps: Mapping[str, Tensor]) -> dict[str, int]:
    """Which axis of each stage's output holds its channels, as an index from 0.

    Tokens (B, N, C) have them last. Of maps, (B, C, H, W) or (B, H, W, C), timm mostly knows how many channels they
    have; all maps of a network are laid out alike.
    """
    described = getattr(model, "feature_info", None)
    known = {each["module"]: each["num_chs"] for each in described} if isinstance(described, list) else {}
    fits = [
        [axis for axis in (1, 3) if value.shape[axis] == known[name]]
        for name, value in maps.items()
        if value.ndim == 4 and name in known
    ]
    certain = [axes[0] for axes in fits if len(axes) == 1]
    map_axis = certain[0] if certain else 3 if getattr(model, "output_fmt", "NCHW") == "NHWC" else 1
    return {name: map_axis if value.ndim == 4 else value.ndim - 1 for name, value in maps.items()}


def channel_attention(
    model: nn.Module,
    sizes: Mapping[str, tuple[int, int]],
    images: Tensor,
    labels: Tensor,
    progress: Progress = no_progress,
) -> dict[str, Tensor]:
    """Importance of every channel, adding up to 1 in each stage.

    A channel counts by how much the cross-entropy rises when it is set to zero in the output of its stage; over the
    channels of a stage, this is standardised, divided by 5 and put through a softmax, as in TLlib.

    Args:
        model: the network, in eval mode.
        sizes: for each stage, by the path of its module: the axis of its channels, and how many they are.
        images: (N, 3, H, W), on the model's device.
        labels: (N,), likewise.
        progress: shows how far it has come.
    """
    attention = {}
    parts = list(zip(images.split(_IMAGES), labels.split(_IMAGES), strict=True))
    with progress("importance of channels", sum(size for _, size in sizes.values()) * len(parts)) as advance:
        for path, (axis, size) in sizes.items():
            ablation = _Ablation(model, path, axis)
            losses = torch.zeros(size, dtype=torch.float64)
            for part, answers in parts:
                losses += ablation.losses(part, answers, size, advance)
            ablation.close()
            attention[path] = _softmax(losses / len(images)).to(images.device)
    return attention


def _softmax(losses: Tensor) -> Tensor:
    # The loss of the whole network would be subtracted from all alike, and standardising takes it out again.
    spread = losses.std(correction=0)
    standard = (losses - losses.mean()) / spread if spread > 0 else torch.zeros_like(losses)
    return (standard / 5).softmax(dim=0).float()


class _Ablation:
    """Losses of a network without single channels of one stage.

    The stages below run once for several channels: what the stage puts out is repeated, each time without another
    channel. Networks that join it with earlier outputs cannot go on with that; they run once for each channel.
    """

    def __init__(self, model: nn.Module, path: str, axis: int) -> None:
        self.model = model
        self.axis = axis
        self.channels = torch.arange(0)
        self.together = True
        self._hook = model.get_submodule(path).register_forward_hook(self._zero)

    def _zero(self, module: nn.Module, arguments: tuple[object, ...], output: Tensor) -> Tensor:
        copies = output.repeat(len(self.channels), *[1] * (output.ndim - 1)).unflatten(0, (len(self.channels), -1))
        copies.movedim(self.axis + 1, 1)[torch.arange(len(self.channels)), self.channels] = 0
        return copies.flatten(0, 1)  # (channels · B, …)

    @torch.no_grad()
    def losses(self, images: Tensor, labels: Tensor, size: int, done: Callable[[int], object]) -> Tensor:
        """Summed cross-entropy of the images without channel 0, without channel 1 …: (size,)."""
        losses = torch.zeros(size, dtype=torch.float64)
        first = 0
        while first < size:
            count = max(1, _ROWS // len(images)) if self.together else 1
            self.channels = torch.arange(first, min(first + count, size))
            try:
                logits = self.model(images).cpu().double()  # (channels · B, classes)
            except RuntimeError:  # shapes that do not go together, or too little memory
                if not self.together:
                    raise
                self.together = False
                continue
            each = F.cross_entropy(logits, labels.cpu().repeat(len(self.channels)), reduction="none")
            losses[self.channels] = each.unflatten(0, (len(self.channels), -1)).sum(dim=1)
            done(len(self.channels))
            first += len(self.channels)
        return losses

    def close(self) -> None:
        self._hook.remove()
