"""Names from the file system as text that can be written down: a name need not be UTF-8."""

import os


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
