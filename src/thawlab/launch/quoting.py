"""Text in quotes: as Hydra's grammar takes it literally, and as a shell hands it over unchanged."""

import os
import shlex
from collections.abc import Iterable, Mapping
from numbers import Integral, Real

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

# What bash or zsh would read as more than a letter of a word.
_SPECIAL_TO_SHELLS = set("[]{}()*?'\"\\$&;|<>#~! \t`")


def literal(text: str) -> str:
    """The text in quotes, so that Hydra and OmegaConf take every sign of it as it is."""
    plain = text.replace("${", "\\${")
    quote = Quote.double if "'" in plain and '"' not in plain else Quote.single
    return QuotedString(plain, quote).with_quotes()


def shell(words: str) -> str:
    """One argument as it has to be typed in bash and in zsh."""
    return shlex.quote(words) if set(words) & _SPECIAL_TO_SHELLS else words


def typed_literal(key: str, text: str) -> str:
    """The argument as it has to be typed in a shell so that the key gets this text, whatever is in it."""
    return shlex.quote(f'{key}="{text}"') if not set(text) & set("\"\\$'") else shlex.quote(f"{key}={literal(text)}")


def written(value: object) -> str:
    """A value of Python's as a setting's is written on the command line: `None` as null, a list as `[a,b]`.

    Texts and paths are quoted where Hydra would read anything else than themselves.

    Raises:
        TypeError: there is no way to write a value of this type.
    """
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        return repr(float(value))
    if isinstance(value, str | os.PathLike):
        text = os.fspath(value)
        return text if "${" not in text and _is_read_as_text(text) else literal(text)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{written(each)}" for key, each in value.items()) + "}"
    if isinstance(value, Iterable):
        return "[" + ",".join(map(written, value)) + "]"
    kind = type(value).__name__
    raise TypeError(f"a setting cannot be of the type {kind}; use a text, number, path, list, mapping or None")


def _is_read_as_text(text: str) -> bool:
    """Whether Hydra takes the text for itself, alone and in a list."""
    parser = OverridesParser.create()
    try:
        alone, listed = parser.parse_overrides([f"key={text}", f"key=[{text}]"])
    except HydraException:
        return False
    return not alone.is_sweep_override() and alone.value() == text and listed.value() == [text]


def split_at_commas(value: str) -> list[str]:
    """The parts of a value between those commas that stand in no quotes and no brackets."""
    parts, depth, quote, start = [], 0, "", 0
    for place, sign in enumerate(value):
        if quote:
            quote = "" if sign == quote and value[place - 1] != "\\" else quote
        elif sign in "'\"" and not value[start:place].strip():  # a quote inside a word is an apostrophe
            quote = sign
        elif sign in "[{(":
            depth += 1
        elif sign in "]})":
            depth -= 1
        elif sign == "," and depth <= 0 and value[place - 1 : place] != "\\":
            parts.append(value[start:place].strip())
            start = place + 1
    return [*parts, value[start:].strip()]
