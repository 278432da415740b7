"""Names from outside in matplotlib's pictures: as they stand, and by fonts that have their letters."""

import unicodedata
from collections.abc import Iterable
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path

import matplotlib
from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.ft2font import FT2Font

from thawlab.system.printable import visible

_FIRST = "DejaVu Sans"  # comes with matplotlib


def literal(text: str) -> str:
    r"""Text as it stands: no formula between dollar signs, and letters that no font here has as `\u9774`."""
    lacking = set(_families(_foreign(text))[1])
    spelled = "".join(each.encode("unicode_escape").decode() if each in lacking else each for each in visible(text))
    return spelled.replace("$", r"\$")


def lettering(texts: Iterable[str]) -> AbstractContextManager[None]:
    """While a figure with these texts is made and drawn: fonts that have their letters, those of this system included.

    Where the first one has them all, nothing changes.
    """
    return matplotlib.rc_context({"font.family": list(_families(_foreign("".join(texts)))[0])})


def lacking(texts: Iterable[str]) -> str:
    """A sentence on names whose letters no font here has; empty if there are none."""
    named = [text for text in dict.fromkeys(texts) if _families(_foreign(text))[1]]
    if not named:
        return ""
    some = ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
    return (
        f"no font of this machine has the letters of {some}: in pictures they are written as codes; install one, such "
        "as Noto Sans CJK, and delete matplotlib's font cache"
    )


def _foreign(text: str) -> frozenset[str]:
    """What the first font lacks, without what has no shape of its own."""
    shown = {each for each in visible(text) if each > "\x7f" and unicodedata.category(each) not in ("Cf", "Mn", "Me")}
    return frozenset(each for each in shown if not _first().get_char_index(ord(each)))


@lru_cache(maxsize=256)
def _families(foreign: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """The fonts to look for letters in, one after the other, and the letters that none of them has."""
    families, left = [_FIRST], set(foreign)
    for name, path in _installed() if left else ():
        found = {each for each in left if _has(path, each)}
        if found:
            families.append(name)
            left -= found
        if not left:
            break
    return tuple(families), frozenset(left)


@lru_cache(maxsize=1)
def _installed() -> tuple[tuple[str, str], ...]:
    """Upright fonts of this system by name, with their files; those without serifs first, as the first one is."""
    own = Path(matplotlib.get_data_path())  # holds fonts of mathematical signs, and one with a box for every letter
    upright = {
        each.name: each.fname
        for each in fontManager.ttflist
        if each.style == "normal" and each.weight in (400, "normal", "regular") and own not in Path(each.fname).parents
    }
    return tuple(sorted(upright.items(), key=lambda each: ("Serif" in each[0], "Sans" not in each[0], each[0])))


@lru_cache(maxsize=1)
def _first() -> FT2Font:
    return FT2Font(findfont(FontProperties(family=_FIRST)))


def _has(path: str, sign: str) -> bool:
    font = _opened(path)
    return font is not None and bool(font.get_char_index(ord(sign)))


@lru_cache(maxsize=32)
def _opened(path: str) -> FT2Font | None:
    """The font; None if it is damaged, gone, or made of pictures in fixed sizes, which matplotlib cannot draw."""
    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):
        return None
    return font if font.scalable else None
