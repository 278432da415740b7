"""One value that a module returns: how it is told apart by images, stored image by image, and handed back."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class CutRefused(ValueError):  # noqa: N818 (a refusal, which costs time alone)
    """A network cannot be cut in two here; the message is a clause that says why."""


@dataclass(frozen=True)
class Activation:
    """A value among those that a call returns.

    Attributes:
        constant: the value itself, where it is the same for all images.
        axis: the axis of the images, None for a constant.
        shape: of the tensor for one image, as it is returned: `shape[axis]` is 1, or how many entries an image has.
        order: its axes from the outermost in memory to the innermost, that of the images first.
        dtype: of the tensor.
    """

    constant: object = None
    axis: int | None = None
    shape: tuple[int, ...] = ()
    order: tuple[int, ...] = ()
    dtype: torch.dtype = torch.float32

    @property
    def differentiable(self) -> bool:
        """Can it have a gradient?"""
        return self.dtype.is_floating_point or self.dtype.is_complex

    @property
    def row(self) -> tuple[int, ...]:
        """Shape of what is stored for an image."""
        entries, *rest = (self.shape[axis] for axis in self.order)
        return (entries, *rest) if entries > 1 else tuple(rest)

    def rows(self, value: Tensor) -> Tensor:
        """From the tensor, as the module returns it, to (B, *row): laid out one image after the other."""
        value = value.permute(self.order).contiguous()
        entries = self.shape[self.order[0]]
        return value.reshape(len(value) // entries, *self.row)

    def value(self, rows: Tensor) -> Tensor:
        """From (B, *row) to the tensor, in the memory format that the module chose; a view of `rows`."""
        entries = self.shape[self.order[0]]
        if entries > 1:
            rows = rows.flatten(0, 1)
        return rows.permute([self.order.index(axis) for axis in range(len(self.order))])

    def blank(self, images: int, device: torch.device, dense: bool) -> object:
        """The constant, or zeros that nothing depends on, without memory of their own unless dense."""
        if self.axis is None:
            return self.constant.to(device) if isinstance(self.constant, Tensor) else self.constant
        shape = [*self.shape[: self.axis], images * self.shape[self.axis], *self.shape[self.axis + 1 :]]
        zeros = torch.zeros(shape if dense else (), dtype=self.dtype, device=device)
        return zeros if dense else zeros.expand(shape)


def activation(call: str, value: object, strides: Sequence[int], other: object, sizes: tuple[int, int]) -> Activation:
    """Tell from two passes what a value is.

    Args:
        call: who returned it, for messages.
        value: in the first pass.
        strides: of `value`, when it was returned.
        other: the same value in the second pass.
        sizes: how many images each pass saw, two different numbers.

    Raises:
        CutRefused: it is neither the same for all images nor has an axis of images.
    """
    if not isinstance(value, Tensor) or not isinstance(other, Tensor):
        if type(value) is type(other) and isinstance(value, int | float | str | tuple | None) and value == other:
            return Activation(value)
        raise CutRefused(f"{call} returns a {type(value).__name__} that depends on the images")
    if value.shape == other.shape:
        if torch.equal(value, other):
            return Activation(value)
        raise CutRefused(f"what {call} returns depends on the images and is not told apart by them")
    pairs = list(zip(value.shape, other.shape, strict=False))
    axes = [axis for axis, (size, others) in enumerate(pairs) if size != others]
    if value.ndim != other.ndim or len(axes) > 1 or any(divmod(pairs[axes[0]][i], sizes[i])[1] for i in (0, 1)):
        raise CutRefused(f"{call} returns tensors of {tuple(value.shape)} and {tuple(other.shape)} for {sizes} images")
    axis, entries = axes[0], [pairs[axes[0]][i] // sizes[i] for i in (0, 1)]
    if entries[0] != entries[1]:
        raise CutRefused(f"{call} returns tensors of {tuple(value.shape)} and {tuple(other.shape)} for {sizes} images")
    shape = (*value.shape[:axis], entries[0], *value.shape[axis + 1 :])
    inner = sorted((each for each in range(value.ndim) if each != axis), key=lambda each: -strides[each])
    return Activation(None, axis, shape, (axis, *inner), value.dtype)
