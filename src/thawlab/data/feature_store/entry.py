"""An entry of the feature cache: a folder with a file for each array, and what they are in `meta.json`."""

import errno
import hashlib
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from thawlab.data.feature_store.arrays import DamagedError, check_array, open_array

META = "meta.json"
_USED = "used"  # a byte for each hit; when it was changed last says when the entry was used last
_FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """Stored activations, open for reading.

    Attributes:
        path: folder.
        arrays: (rows, *shape) each, read-only, memory-mapped if they are large. They stay readable when the folder is
            removed.
        bytes: size of the arrays' files.
        meta: what `meta.json` says.
    """

    path: Path
    arrays: dict[str, np.ndarray]
    bytes: int
    meta: dict[str, Any]


@dataclass(frozen=True)
class EntryInfo:
    """What is known of an entry without opening it; of a damaged one the key is empty, and rows and seconds are 0.

    Attributes:
        name: of its folder.
        path: of its folder.
        key: what it was stored under.
        bytes: size of the arrays' files.
        rows: images, times views.
        hits: how often it was found.
        created: in seconds since 1970.
        last_used: in seconds since 1970; as created where it was never found.
        fill_seconds: that making it took.
    """

    name: str
    path: Path
    key: Mapping[str, object]
    bytes: int
    rows: int
    hits: int
    created: float
    last_used: float
    fill_seconds: float


def canonical(data: object) -> str:
    """JSON that is the same for the same data.

    Raises:
        TypeError: it is no plain data.
        ValueError: a number in it is infinite or none.
    """
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def entry_name(key: Mapping[str, object]) -> str:
    """Name of the folder of what is stored under a key."""
    return hashlib.sha256(canonical(key).encode()).hexdigest()[:24]


def write_meta(
    folder: Path, key: Mapping[str, object], rows: int, arrays: Sequence[Mapping[str, Any]], fill_seconds: float
) -> dict[str, Any]:
    """Write what makes a folder of arrays an entry, and bring it to the disk; return what was written.

    Raises:
        OSError: it cannot be done.
    """
    meta = {
        "format": _FORMAT,
        "key": json.loads(canonical(key)),
        "rows": rows,
        "bytes": arrays_bytes(folder),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "fill_seconds": round(fill_seconds, 3),
        "arrays": list(arrays),
    }
    meta["checksum"] = _checksum(meta)
    for name, text in ((META, json.dumps(meta, indent=2) + "\n"), (_USED, "")):
        with (folder / name).open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    sync_folder(folder)
    return meta


def read_meta(folder: Path) -> dict[str, Any]:
    """What `meta.json` says.

    Raises:
        DamagedError: it was changed.
        OSError: it is missing, or cannot be read.
    """
    text = (folder / META).read_bytes()
    try:
        meta = json.loads(text)
        sound = isinstance(meta, dict) and meta.get("checksum") == _checksum(meta)
    except ValueError as error:  # it is no JSON, or not even text
        raise DamagedError(f"{META} is not JSON: {error}") from error
    if not sound:
        raise DamagedError(f"{META} differs from its checksum")
    if meta["format"] != _FORMAT:
        raise DamagedError(f"{META} has the format {meta['format']}, and this version of thawlab reads {_FORMAT}")
    return meta


def check_entry(folder: Path) -> dict[str, Any]:
    """Read every byte and compare all checksums; return what `meta.json` says.

    Raises:
        DamagedError: something was changed.
        OSError: something is missing, or cannot be read.
    """
    meta = read_meta(folder)
    for about in meta["arrays"]:
        check_array(folder, about, meta["rows"])
    return meta


def open_entry(folder: Path, meta: dict[str, Any], path: Path) -> Entry:
    """Open the arrays of an entry that is sound; `path` is where the folder is or will be.

    Raises:
        DamagedError: a file holds something else.
        OSError: something is missing, or cannot be read.
    """
    arrays = {about["name"]: open_array(folder, about, meta["rows"]) for about in meta["arrays"]}
    return Entry(path, arrays, meta["bytes"], meta)


def count_hit(folder: Path) -> None:
    """Note that an entry was used, where that can be written down."""
    with suppress(OSError):  # a folder that cannot be written to still gives what it has
        file = os.open(folder / _USED, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(file, b".")  # adding a byte is one step, whoever else does so
        finally:
            os.close(file)


def info(folder: Path) -> EntryInfo | None:
    """What is known of an entry; None if it was removed meanwhile."""
    try:
        meta = read_meta(folder)
    except (DamagedError, OSError):
        meta = {"key": {}, "rows": 0, "fill_seconds": 0.0}
    try:
        made = folder.stat().st_mtime
        created = datetime.fromisoformat(meta["created"]).timestamp() if "created" in meta else made
        size = arrays_bytes(folder)
    except OSError:
        return None
    try:
        used = (folder / _USED).stat()
        hits, last_used = used.st_size, used.st_mtime
    except OSError:
        hits, last_used = 0, created
    return EntryInfo(
        folder.name, folder, meta["key"], size, meta["rows"], hits, created, last_used, meta["fill_seconds"]
    )


def arrays_bytes(folder: Path) -> int:
    """Size of the arrays' files.

    Raises:
        OSError: the folder cannot be read.
    """
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix == ".npy")


def sync_folder(folder: Path) -> None:
    """Bring a folder's list of files to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems do so by themselves, and know no such call
            raise
    finally:
        os.close(descriptor)


def _checksum(meta: Mapping[str, Any]) -> int:
    return zlib.crc32(canonical({name: value for name, value in meta.items() if name != "checksum"}).encode())
