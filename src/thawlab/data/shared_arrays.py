"""Arrays and long lists of texts that workers are handed without a copy."""

from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np

from thawlab.data.shared_block import SharedBlock


class SharedArray:
    """An array that is copied once, and unpickles as a read-only array of the same memory in any number of workers."""

    def __init__(self, array: np.ndarray) -> None:
        self._block = SharedBlock(max(array.nbytes, 1))
        self._array = array
        np.frombuffer(self._block.data, array.dtype, array.size)[:] = array.ravel()

    def __reduce__(self) -> tuple[Callable[..., np.ndarray], tuple[Any, ...]]:
        array = self._array
        if self._block.can_be_sent:
            return _array_in, (self._block, array.dtype, array.shape)
        return np.array, (array,)


def _array_in(block: SharedBlock, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    array = np.frombuffer(block.data, dtype, int(np.prod(shape))).reshape(shape)
    array.flags.writeable = False
    return array


class SharedTexts(Sequence[str]):
    """Texts one after the other in an array, which takes the memory of their letters and not that of objects.

    Args:
        letters: of all texts, in UTF-8 (uint8).
        ends: where each ends, after a zero (int64).
    """

    def __init__(self, letters: np.ndarray, ends: np.ndarray) -> None:
        self._letters, self._ends = letters, ends
        self._sent: tuple[SharedArray, SharedArray] | None = None

    @classmethod
    def of(cls, texts: Sequence[str]) -> "SharedTexts":
        """The same texts; what stands in a name for bytes that are no UTF-8 stays."""
        parts = [text.encode("utf-8", "surrogatepass") for text in texts]
        ends = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(parts), dtype=np.uint8), ends)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        return self._letters[self._ends[position] : self._ends[position + 1]].tobytes().decode("utf-8", "surrogatepass")

    def __reduce__(self) -> tuple[type["SharedTexts"], tuple[Any, ...]]:
        if self._sent is None:
            self._sent = SharedArray(self._letters), SharedArray(self._ends)
        return SharedTexts, self._sent
