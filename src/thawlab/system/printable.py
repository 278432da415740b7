"""Text from outside as it can be written down and shown: a name may be no UTF-8, and hold orders to a terminal."""

import os
import re

# Orders to a terminal, line breaks of all kinds but \n, and signs that turn the direction of what is read around.
_ORDERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")


def printable(name: str | os.PathLike[str]) -> str:
    r"""A path or its part, with the bytes that are no UTF-8 as `\xe9`; what can be encoded stays as it is.

    Python holds such a byte as half of a surrogate pair, at which UTF-8, and so terminals, JSON files, Parquet and
    databases fail. The answer names the file for people; it does not open it.
    """
    text = os.fspath(name)
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a half that stands for no byte, as Windows has them in names
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def visible(text: str) -> str:
    r"""Text with what a terminal would obey written out, such as `\x1b[2J` and `\u202e`; line breaks and tabs stay."""
    return _ORDERS.sub(lambda found: _code(found.group()), printable(text))


def one_line(text: str) -> str:
    r"""As `visible`, with line breaks and tabs written out, too: a name cannot pass for the lines after it."""
    return visible(text).replace("\n", r"\n").replace("\t", r"\t")


def _code(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")
