"""Text in quotes: as Hydra's grammar takes it literally, and as a shell hands it over unchanged."""

import shlex

from hydra.core.override_parser.types import Quote, QuotedString

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
