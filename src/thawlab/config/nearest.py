"""Names that look like one that does not exist, for messages."""

import difflib
from collections.abc import Collection, Iterable


def nearest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The most similar of the names, best first; none if nothing comes close."""
    return difflib.get_close_matches(name, sorted(set(names)), n=count, cutoff=0.5)


def hint(name: str, known: Collection[str]) -> str:
    """The end of a message about an unknown name: the nearest ones, else all if they are few, else nothing."""
    if near := nearest(name, known):
        return f"; nearest: {', '.join(near)}"
    return f"; choices: {', '.join(sorted(known))}" if len(known) <= 30 else ""
