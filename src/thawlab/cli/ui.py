"""`thawlab ui`: MLflow's own page on the store that training writes to, with links to its runs and charts.

`python -m thawlab.cli.ui ADDRESS PROCESS` says when the page answers; the command starts that beside the page.
"""

import argparse
import os
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from thawlab.system.printable import one_line
from thawlab.system.redaction import redacted
from thawlab.system.surroundings import shown

_HOST = "127.0.0.1"
_PORTS = 100  # tried one after the other
_SECONDS = 300  # in which a page answers, or nothing is said


def ui(arguments: Sequence[str]) -> int:
    """Start MLflow's page on this machine only, in place of this process; for a server, say where it is."""
    options = _options(arguments)
    try:
        return _show(options)
    except ValueError as error:
        print(shown(f"error: {error}"), file=sys.stderr)
        return 2


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "thawlab ui", description="MLflow's page on the runs. root=FOLDER and uri=ADDRESS work as for train.py, too."
    )
    parser.add_argument("--root", help="folder of the local store (default: mlruns)")
    parser.add_argument("--uri", help="a database or a server in its place (default: MLFLOW_TRACKING_URI, if set)")
    parser.add_argument("--port", type=int, default=5000, help="another one if it is taken (default: 5000)")
    typed = [f"--{each.removeprefix('tracking.')}" if _is_setting(each) else each for each in arguments]
    return parser.parse_args(typed)


def _is_setting(argument: str) -> bool:
    return argument.removeprefix("tracking.").startswith(("root=", "uri=", "port="))


def _show(options: argparse.Namespace) -> int:
    root = Path(options.root or "mlruns").absolute()
    from_elsewhere = options.uri or (os.environ.get("MLFLOW_TRACKING_URI") if options.root is None else None)
    database = root / "mlflow.db"
    if not from_elsewhere and not database.is_file():
        raise ValueError(f"--root={options.root or 'mlruns'}: no store there yet; a run makes one")
    from thawlab.tracking.store import open_store
    from thawlab.tracking.ui_links import training_pages

    store = open_store(from_elsewhere or f"sqlite:///{database}", root)
    if store.database is not None and not store.database.is_file():  # MLflow would make one, and show nothing
        raise ValueError(f"--uri={from_elsewhere}: no store there yet; a run makes one")
    if store.is_server:
        _print_links(redacted(store.uri).rstrip("/"), training_pages(store))
        print(f"{redacted(store.uri)} is a server, which shows its page itself; nothing is started here")
        return 0
    port = _free_port(options.port)
    address = f"http://{_HOST}:{port}"
    _print_links(address, training_pages(store, add_views=True))
    print("starts in some seconds; Ctrl-C ends it", flush=True)
    _watch_from_beside(address)
    # One process serves one user, and starts four times as fast as MLflow's four. In place of this process, so that
    # whatever ends it ends the page's server.
    # The address, which may hold a password, is not for everybody who lists this machine's processes.
    command = ["-P", "-m", "mlflow", "ui", "--workers", "1"]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_BACKEND_STORE_URI": store.uri}
    # Its server puts a folder of its own before all others that modules are looked for in: by default this one.
    environment.setdefault("UVICORN_APP_DIR", sysconfig.get_path("stdlib"))
    os.execve(sys.executable, [sys.executable, *command, "--host", _HOST, "--port", str(port)], environment)
    return 0  # for a test, in which nothing is executed


def _print_links(address: str, pages: Sequence) -> None:
    for each in pages:
        name = one_line(each.name)
        print(f"{name}: {address}{each.runs}")
        print(f"{' ' * len(name)}  {address}{each.charts}")
    if not pages:
        print("no experiment has a run yet")


def _free_port(wanted: int) -> int:
    for port in range(wanted, min(wanted + _PORTS, 65536)):
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: one just closed is free
            try:
                tried.bind((_HOST, port))
            except OSError:
                continue
        if port != wanted:
            print(f"port {wanted} is taken, so it is port {port}")
        return port
    raise ValueError(f"--port={wanted}: this port and the next {_PORTS - 1} are taken; use another one")


def _watch_from_beside(address: str) -> None:
    subprocess.run([sys.executable, "-P", "-m", "thawlab.cli.ui", address, str(os.getpid())], check=False)


def _say_when_ready(address: str, process: int) -> None:
    """Wait for the page, unless the process that is to serve it has ended."""
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        try:
            os.kill(process, 0)
            with urlopen(f"{address}/health", timeout=5):
                print(f"ready: {address}", flush=True)
                return
        except ProcessLookupError:
            return
        except (URLError, OSError):
            time.sleep(0.3)


def main() -> None:
    """Go on in the background, as nobody's child: the page's server would never ask how it ended."""
    if os.fork() == 0:
        _say_when_ready(sys.argv[1], int(sys.argv[2]))
    os._exit(0)


if __name__ == "__main__":
    main()
