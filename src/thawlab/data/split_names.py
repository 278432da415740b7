"""Which split a folder stands for by its name, and which names mean one class."""

import re
import unicodedata
from collections.abc import Iterable

# `training_set`, `Test`, `seg_train`, `val2017`, `testImages`: a word for a split, with words that say no more.
_WORDS = {
    "train": "train|training|trainings",
    "val": "val|vals|valid|validate|validating|validation|dev|develop|development|eval|evaluate|evaluation",
    "test": "test|tests|tst|testing|holdout",
}
_FILL = "all|base|data|dataset|dir|files|folder|full|image|images|imagery|img|imgs|my|new|original|pictures|photos"
_FILL += "|resized|samples|seg|set|sets|split|the"
_SPLITS = {split: re.compile(f"(?:{_FILL})*(?:{words})(?:{_FILL})*[0-9]*") for split, words in _WORDS.items()}
_PLAIN = frozenset({"train", "val", "valid", "validation", "test"})


def split_of(name: str) -> str | None:
    """The split that a folder of this name stands for: "train", "val", "test", or None."""
    letters = re.sub(r"[\s_.\-()]+", "", name.casefold())
    return next((split for split, pattern in _SPLITS.items() if pattern.fullmatch(letters)), None)


def is_plain(name: str) -> bool:
    """Whether it is one of the usual names, in any case, of which nothing need be said."""
    return name.casefold() in _PLAIN


def looks_the_same(name: str) -> str:
    """What names have in common that differ by nothing but case, spaces or signs without width."""
    seen = "".join(sign for sign in unicodedata.normalize("NFC", name) if unicodedata.category(sign) != "Cf")
    return " ".join(seen.split()).casefold()


def same_but_for_case(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that differ by nothing but case."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.casefold(), []).append(name)
    return [group for group in groups.values() if len(group) > 1]
