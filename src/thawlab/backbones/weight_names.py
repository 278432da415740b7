"""Which of a file's tensors are a network's, whatever they were wrapped in and prefixed with."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

State = Mapping[str, Tensor]

# Counts of operations, as profilers leave them, and tables that a network computes anew: no weights.
_COMPUTED = ("total_ops", "total_params", "relative_position_index", "relative_coords_table", "attn_mask")
# Of several sets of the same weights the moving average goes first, as in timm.
_AVERAGES = ("ema", "teacher", "averaged", "swa")
_DEPTH = 3


@dataclass(frozen=True)
class Found:
    """Tensors under the network's own names, and where in the file they were.

    Attributes:
        state: the tensors.
        place: keys and prefix that lead to them, "" if none.
        matching: entries whose name and shape are the network's.
        others: other places in the file with as many.
        left: names of tensors that stand beside the network's, such as a loss's.
    """

    state: dict[str, Tensor]
    place: str
    matching: int
    others: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


def find(content: object, own: State) -> Found | None:
    """The tensors of the content that are most like a network's state_dict; None if it holds no tensors by name."""
    found = [each for place, state in _states(content) for each in _prefixed(place, state, own)]
    if not found:
        return None
    most = max(each.matching for each in found)
    alike = [each for each in found if each.matching == most]
    best = min(alike, key=lambda each: not _is_average(each.place))  # the first of equals
    others = tuple(each.place for each in alike if each is not best) if most else ()
    return Found(best.state, best.place, best.matching, others, best.left)


def _states(content: object, place: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dictionary with tensors in it, by the keys that lead to it."""
    if not isinstance(content, Mapping):
        return
    entries: Mapping[Any, Any] = content
    state = {name: value for name, value in entries.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if state:
        yield place, state
    for name, value in entries.items():
        if depth < _DEPTH and isinstance(value, Mapping):
            yield from _states(value, f"{place}.{name}" if place else str(name), depth + 1)


def _prefixed(place: str, state: dict[str, Tensor], own: State) -> Iterator[Found]:
    """The state under each of the prefixes that make the most of its names the network's."""
    counts: Counter[str] = Counter()
    for name, value in state.items():
        for start in _starts(name):
            if (mine := own.get(name[start:])) is not None and mine.shape == value.shape:
                counts[name[:start]] += 1
    most = max(counts.values(), default=0)
    few = most <= len(own) / 10  # names such as conv1.weight stand in many networks
    for prefix in [""] if few else [each for each, count in counts.items() if count == most]:
        inside = {
            name.removeprefix(prefix): value
            for name, value in state.items()
            if name.startswith(prefix)
            and (name.removeprefix(prefix) in own or name.rpartition(".")[2] not in _COMPUTED)
        }
        left = tuple(name for name in state if not name.startswith(prefix))
        where = ".".join(part for part in (place, prefix.rstrip(".")) if part)
        yield Found(inside, where, 0 if few else most, left=left)


def _starts(name: str) -> Iterator[int]:
    yield 0
    yield from (at + 1 for at, letter in enumerate(name) if letter == ".")


def _is_average(place: str) -> bool:
    return any(word in place.lower().replace(".", "_").split("_") for word in _AVERAGES)
