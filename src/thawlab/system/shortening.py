"""Names cut to the room that they have, and still told apart."""

from collections.abc import Sequence

_FEWEST = 6  # characters that the names have in common are left out from so many on


def shortened(names: Sequence[str], width: int = 18) -> list[str]:
    """Names of at most so many characters, different wherever the names are; those that fit stay as they are.

    What is cut goes out of the middle, since names tend to differ at their end. Where that would make two of them
    equal, what all long ones begin with goes, and where nothing else helps, they are numbered: `a very l…o (2)`.
    """
    long = [name for name in dict.fromkeys(names) if len(name) > width]
    shared = _shared(long) if len(long) > 1 else ""
    ways = [{name: _without_middle(name, width) for name in long}]
    if len(shared) >= _FEWEST:
        start = _word_start(shared)
        ways.append({name: _without_middle(f"…{name[start:]}", width) for name in long})
    kept = {name for name in names if len(name) <= width}
    for way in ways:
        if len(kept.union(way.values())) == len(kept) + len(long):
            return [way.get(name, name) for name in names]
    numbered = _numbered(long, kept, width)
    return [numbered.get(name, name) for name in names]


def _shared(names: Sequence[str]) -> str:
    """What all begin with: what the first and the last in alphabetical order do."""
    first, last = min(names), max(names)
    same = [one == other for one, other in zip(first, last, strict=False)]
    return first[: same.index(False)] if False in same else first


def _word_start(shared: str) -> int:
    """Where the last word of what all share begins; one sign of it is kept at least, so that no name vanishes."""
    start = max(shared[:-1].rfind(sign) for sign in "_-/. =") + 1
    return start if len(shared) - start <= _FEWEST else len(shared) - 1


def _without_middle(name: str, width: int) -> str:
    if len(name) <= width:
        return name
    head = (width - 1) // 2
    return f"{name[:head]}…{name[len(name) - (width - 1 - head) :]}"


def _numbered(long: Sequence[str], kept: set[str], width: int) -> dict[str, str]:
    taken, result = set(kept), {}
    for name in long:
        short, number = _without_middle(name, width), 1
        while short in taken:
            number += 1
            sign = f" ({number})"
            short = _without_middle(name, max(width - len(sign), 1)) + sign
        taken.add(short)
        result[name] = short
    return result
