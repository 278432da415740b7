"""Computing the frozen stages in bfloat16: whether the processor is quick at it, and what it changes on images."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from thawlab.backbones.cut.find import Cut
from thawlab.backbones.cut.verify import untouched
from thawlab.backbones.torch_internals import tree_leaves

Context = Callable[[], AbstractContextManager[object]]  # what a forward pass of some precision runs in

# The most that features and logits may differ from those in float32, as a share of how much they vary over images.
MOST = 0.15
_X86 = ("avx512_bf16", "amx_bf16")  # an instruction for products of vectors, and one for those of tiles


@dataclass(frozen=True)
class Difference:
    """What bfloat16 changes, as shares of how much the same numbers vary over images (both root mean squares).

    Attributes:
        features: at the cut; of several tensors the largest.
        logits: that the rest of the network makes of them in training's precision.
    """

    features: float
    logits: float

    @property
    def serves(self) -> bool:
        """Whether it is small enough; one that is not a number is not."""
        return self.features <= MOST and self.logits <= MOST


def in_hardware(device: torch.device) -> bool:
    """Whether products of bfloat16 are faster than those of float32; by emulation they take many times as long."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return not _cpu_capabilities().isdisjoint(_X86)


def in_bfloat16(device: torch.device) -> Context:
    """What a forward pass runs in for its products to be in bfloat16; the weights themselves stay as they are."""
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16)


def difference(cut: Cut, images: Tensor, context: Context, half: Context) -> Difference:
    """Compute features and logits of images (B, 3, H, W) in training's precision and with the features in bfloat16.

    Args:
        cut: of a network, which is left as it was.
        images: several, in the memory format that is going to be used.
        context: what a forward pass of training's precision runs in.
        half: what one in bfloat16 runs in.
    """
    with torch.inference_mode(False), untouched(cut.model, images.device), torch.no_grad():
        cut.model.eval()
        with context():
            exact = cut.prefix(images)
            logits = _tensors(cut.suffix(exact))
        with half():
            rounded = cut.prefix(images)
        with context():
            others = _tensors(cut.suffix(rounded))
    return Difference(_share(exact, rounded), _share(logits, others))


def _cpu_capabilities() -> frozenset[str]:
    """What the processor can do; nothing where the system does not tell."""
    if hasattr(torch.cpu, "get_capabilities"):  # not in all versions
        return frozenset(name for name, there in torch.cpu.get_capabilities().items() if there is True)
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())


def _tensors(returned: object) -> list[Tensor]:
    return [each for each in tree_leaves(returned) if isinstance(each, Tensor)]


def _share(exact: Sequence[Tensor], rounded: Sequence[Tensor]) -> float:
    """The largest difference of any pair, as a share of how much the exact one varies over the images."""
    shares = [0.0]
    for one, other in zip(exact, rounded, strict=True):
        values, changed = one.double(), other.double() - one.double()
        if changed.any():
            shares.append(float((changed.square().mean() / (values - values.mean(0)).square().mean()).sqrt()))
    return max(shares) if all(share == share for share in shares) else float("nan")
