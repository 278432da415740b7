"""Addresses of tracking stores as people type them: what is wrong with one, found without loading MLflow."""

import os
import re
import socket
import ssl
from http.client import HTTPException, InvalidURL
from importlib.metadata import entry_points
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from thawlab.config.nearest import nearest
from thawlab.system.redaction import redacted

SERVERS = ("http", "https", "databricks", "databricks-uc", "uc")
_DATABASES = ("postgresql", "mysql", "mssql", "sqlite")
_FILES_ALLOWED = "MLFLOW_ALLOW_FILE_STORE"
_FOR_ARTIFACTS = ("s3", "gs", "wasbs", "abfss", "hdfs", "ftp", "sftp", "r2", "b2")
_LOCAL = "or leave it empty for the local store"
_PORTS = {"postgresql": 5432, "mysql": 3306}
_SECONDS = 8.0  # that a server may take for its first answer


def given(uri: str | None) -> tuple[str, str | None]:
    """The setting that names the store, and the address: `tracking.uri`, else MLFLOW_TRACKING_URI, else None."""
    if uri and uri.strip():
        return "tracking.uri", uri.strip()
    return "MLFLOW_TRACKING_URI", (os.environ.get("MLFLOW_TRACKING_URI") or "").strip() or None


def mistake(key: str, address: str) -> str | None:
    """What is wrong with an address, and what to type; None for one that MLflow takes."""
    bare = address.strip("'\"")
    if bare != address:
        return _told(key, address, f"there are quotes in the address; use {bare}")
    if re.match(r"sqlite(\+\w+)?:", address):
        return _sqlite_mistake(key, address)
    scheme, colons, rest = address.partition("://")
    if colons and scheme in (*SERVERS, *_plugins()) and (rest.lstrip("/") == rest != "" or scheme[:4] != "http"):
        return None
    if colons and scheme.partition("+")[0] in _DATABASES and rest:
        return None
    if address in SERVERS[2:]:  # databricks, as it is
        return None
    folders_allowed = os.environ.get(_FILES_ALLOWED, "").lower() in ("true", "1")
    if scheme == "file" or address.startswith("file:"):
        return None if folders_allowed else _folder_mistake(key, address)
    if colons:
        return _unknown_scheme(key, address, scheme, rest)
    return None if folders_allowed and Path(address).is_dir() else _no_scheme(key, address)


def unreachable(key: str, address: str) -> str | None:
    """Ask a server whether it is there, by HTTP whether it speaks MLflow; None if so, or if only MLflow can tell."""
    scheme = address.partition("://")[0]
    advice = f"start it, correct {key}, {_LOCAL}"
    if port := _PORTS.get(scheme.partition("+")[0]):
        silent = _silence(address, port)
        return _told(key, address, f"no database there ({silent}); {advice}") if silent else None
    if scheme not in ("http", "https"):
        return None
    try:
        parts = urlsplit(address)
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl().rstrip("/")
        request = Request(f"{bare}/api/2.0/mlflow/experiments/search?max_results=1")
        with urlopen(request, timeout=_SECONDS):  # by the user's own proxies, as MLflow
            return None
    except HTTPError as error:  # others than "no such page" are about who asks
        wrong = error.code in (404, 405, 501)
        return _told(key, address, f"no usable MLflow server there (HTTP {error.code}); {advice}") if wrong else None
    except (ValueError, InvalidURL) as error:  # a port that is no number, blanks inside
        return _told(key, address, f"this is no address ({error}); use http://HOST:PORT, {_LOCAL}")
    except HTTPException as error:
        return _told(key, address, f"no usable MLflow server there (it does not speak HTTP: {error!r}); {advice}")
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            return None
        return _told(key, address, f"no usable MLflow server there ({_failure(reason)}); {advice}")


def _silence(address: str, port: int) -> str | None:
    """Why no connection to a database's server can be had; None if it can, or if its driver finds it otherwise."""
    bare, _, query = address.partition("?")
    place = urlsplit("//" + bare.partition("://")[2].rpartition("@")[2])  # a password may hold anything
    try:
        host, port = place.hostname, place.port or port
    except ValueError:  # several servers, of which the driver chooses
        return None
    if not host or "," in host or "host" in query or "socket" in query:
        return None
    try:
        socket.create_connection((host, port), timeout=_SECONDS).close()
    except OSError as error:
        return _failure(error)
    return None


def _failure(reason: object) -> str:
    return "no machine of this name" if isinstance(reason, socket.gaierror) else "nothing answers"


def sqlite_path(address: str) -> Path:
    """The file that a sqlite:/// address means: as it stands there, or unquoted where that is what exists."""
    text = re.sub(r"^sqlite(\+\w+)?:///", "", address)
    literal, plain = Path(text), Path(unquote(text))
    quoted = address.startswith("sqlite+") or (not literal.parent.is_dir() and plain.parent.is_dir())
    return (plain if quoted else literal).absolute()


def sqlite_address(path: Path) -> str:
    """The address of a SQLite file, whatever signs its path has."""
    if not {"?", "%"} & set(str(path)):
        return f"sqlite:///{path}"
    # With its driver named, since MLflow would make the folder of a plain address under its quoted name.
    return "sqlite+pysqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")


def _plugins() -> set[str]:
    return {each.name for each in entry_points(group="mlflow.tracking_store")}


def _told(key: str, address: str, what: str) -> str:
    return redacted(f"{key}={address}: {what}")


def _sqlite_mistake(key: str, address: str) -> str | None:
    kind, _, rest = address.partition(":")
    slashes = len(rest) - len(rest.lstrip("/"))
    name = rest.lstrip("/")
    if slashes not in (3, 4):
        right = f"{kind}:{'////' if slashes in (1,) or slashes > 4 else '///'}{name or 'mlflow.db'}"
        counted = "three slashes before a path from here, four before one from the root"
        return _told(key, address, f"an address of SQLite has {counted}; use {right}")
    if not name or rest.endswith("/") or sqlite_path(address).is_dir():
        right = f"{kind}:{rest.rstrip('/') if name else '///.'}/mlflow.db"
        return _told(key, address, f"this names no file; use {right}")
    return None


def _no_scheme(key: str, address: str) -> str:
    """An address without ://: a server's name, or a folder."""
    if broken := re.match(r"(https?)[:;/]+(?=[\w.\[-])", address):
        right = f"{broken[1]}://{address[broken.end() :]}"
        return _told(key, address, f"it needs :// after {broken[1]}; use {right}")
    host = re.fullmatch(r"([\w-]+(\.[\w-]+)*|\[[0-9a-fA-F:]+\]):\d+(/.*)?", address)
    if host and not Path(address).exists():
        return _told(key, address, f"it lacks http://; use http://{address}, {_LOCAL}")
    if re.fullmatch(r"[\w-]+(\.[\w-]+)+(/.*)?", address) and not Path(address).exists() and not _is_file(address):
        return _told(key, address, f"for a server use http://{address}; for a local store sqlite:///FOLDER/mlflow.db")
    return _folder_mistake(key, address)


def _is_file(address: str) -> bool:
    return address.endswith((".db", ".sqlite", ".sqlite3"))


def _folder_mistake(key: str, address: str) -> str:
    folder = address.removeprefix("file://").removeprefix("file:").rstrip("/") or "."
    if _is_file(folder):
        return _told(key, address, f"an address of SQLite begins with sqlite:///; use sqlite:///{folder}")
    return _told(
        key,
        address,
        f"MLflow no longer keeps runs in a plain folder; use sqlite:///{folder}/mlflow.db, a server's http:// address, "
        f"{_LOCAL}. Old runs move over by: mlflow migrate-filestore --source {folder} "
        f"--target sqlite:///{folder}/mlflow.db",
    )


def _unknown_scheme(key: str, address: str, scheme: str, rest: str) -> str:
    if scheme in ("http", "https"):
        return _told(key, address, f"it names no server; use {scheme}://HOST:PORT, {_LOCAL}")
    if scheme in _FOR_ARTIFACTS:
        return _told(key, address, f"{scheme}:// can hold files, no runs; use a server's http:// address, {_LOCAL}")
    schemes = (*SERVERS, *_DATABASES)
    near = nearest(scheme.partition("+")[0], schemes, 1)
    hint = f"use {near[0]}://{rest}" if near else f"use one of {', '.join(schemes)}"
    return _told(key, address, f"MLflow knows no store of the kind {scheme}://; {hint}, {_LOCAL}")
