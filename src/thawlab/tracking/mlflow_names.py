"""Names and values in the form MLflow accepts: flat, from its alphabet, within its limits."""

import hashlib
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence

from thawlab.system.printable import printable
from thawlab.system.redaction import redacted

KEY_LIMIT = 250  # characters in the name of a param, metric or tag
PARAM_LIMIT = 6000  # characters in a param's value
TAG_LIMIT = 8000  # characters in a tag's value

_FOREIGN = re.compile(r"[^/\w.\- ]")  # MLflow takes ':' too, but not on Windows


def clean_key(key: str) -> str:
    """The nearest name that MLflow accepts: `acc@1` becomes `acc_1`, a path is made relative and normal."""
    cleaned = _FOREIGN.sub("_", key).strip()
    parts = [part for part in cleaned.split("/") if part not in ("", ".", "..")]
    cleaned = posixpath.join(*parts) if parts else "_"
    if len(cleaned) > KEY_LIMIT:
        cleaned = cleaned[: KEY_LIMIT - 9] + "-" + hashlib.sha256(key.encode()).hexdigest()[:8]
    return cleaned


def clean_keys(keys: Iterable[str]) -> dict[str, str]:
    """Map each key to the name MLflow gets.

    Raises:
        ValueError: if two keys would share a name, and so overwrite each other in silence.
    """
    cleaned: dict[str, str] = {}
    owner: dict[str, str] = {}
    for key in keys:
        name = clean_key(key)
        if owner.setdefault(name, key) != key:
            raise ValueError(
                f"{key}: MLflow would store this name and {owner[name]} both as {name}; rename one of them"
            )
        cleaned[key] = name
    return cleaned


def leaving(text: str) -> str:
    """Text on its way into a store, which others read: without passwords, and as a database can hold it."""
    return redacted(printable(text)).replace("\0", r"\x00")


def shorten(value: str, limit: int) -> str:
    """As `leaving`, and at most `limit` characters, the last one an ellipsis where something was cut."""
    value = leaving(value)
    return value if len(value) <= limit else value[: limit - 1] + "…"


def flatten(config: Mapping, prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted names and text, written as YAML writes it (`true`, `null`), so as a user types it."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = _text(value)
    return flat


def _text(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_text(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_text(inner) for inner in value) + "]"
    return str(value)
