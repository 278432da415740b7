"""`thawlab sweeps`: which sweeps there are, how far each is, and what it found."""

import argparse
import sys
import textwrap
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING

from thawlab.system.printable import one_line
from thawlab.system.surroundings import shown

if TYPE_CHECKING:
    from thawlab.tracking.sweep_list import ListedSweep

_KEYS = ("experiment", "root", "uri", "last")


def sweeps(arguments: Sequence[str]) -> int:
    """List them; return the exit code: 2 for a mistake."""
    options = _options(arguments)
    try:
        _show(options)
    except ValueError as error:
        print(shown(f"error: {error}"), file=sys.stderr)
        return 2
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "thawlab sweeps",
        description="The sweeps of a store, the newest first: when it was started, its experiment and what varies; its "
        "runs that are done, failed or missing; the first sentence of its comparison. experiment=NAME and so on work, "
        "too.",
    )
    parser.add_argument("--experiment", metavar="NAME", help="of one MLflow experiment (default: all)")
    parser.add_argument("--root", help="folder of the local store (default: mlruns)")
    parser.add_argument("--uri", help="a database or a server in its place (default: MLFLOW_TRACKING_URI, if set)")
    parser.add_argument("--last", type=_count, default=20, metavar="N", help="how many at most (default: 20)")
    return parser.parse_args([f"--{each}" if _is_setting(each) else each for each in arguments])


def _is_setting(argument: str) -> bool:
    return argument.partition("=")[0] in _KEYS and "=" in argument


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: use a whole number from 1 on")
    return int(text)


def _show(options: argparse.Namespace) -> None:
    if options.root and options.uri:
        raise ValueError(f"root={options.root} uri={options.uri}: each of these names a store; use one")
    from thawlab.tracking.store import open_store
    from thawlab.tracking.sweep_list import list_sweeps

    store = open_store(options.uri, Path(options.root or "mlruns"))
    found = list_sweeps(store, options.experiment, options.last + 1)
    for each in found[: options.last]:
        print("\n".join(shown(one_line(line)) for line in _lines(each)), end="\n\n")
    if not found:
        what = f"experiment={options.experiment}" if options.experiment else shown(store.uri)
        print(f"{what}: no sweep yet; train.py -m … starts one")
    elif len(found) > options.last:
        print(f"there are earlier ones: last={2 * options.last}")


def _lines(sweep: "ListedSweep") -> Iterator[str]:
    parent = sweep.parent
    began = datetime.fromtimestamp(parent.started).strftime("%Y-%m-%d %H:%M")
    yield f"{began}  {sweep.experiment}  {parent.name.removeprefix('sweep ')}"
    counts = [f"{count} {what}" for count, what in _counts(sweep) if count or what == "done"]
    yield f"  {', '.join(counts)}{_state(sweep)}"
    width = max(get_terminal_size().columns - 2, 40)
    yield from textwrap.wrap(sweep.answer or "not compared", width, initial_indent="  ", subsequent_indent="  ")
    yield f"  sweep={parent.tags.get('sweep_id', parent.run_id)}"


def _counts(sweep: "ListedSweep") -> tuple[tuple[int, str], ...]:
    return (sweep.done, "done"), (sweep.failed, "failed"), (sweep.missing, "missing")


def _state(sweep: "ListedSweep") -> str:
    if sweep.parent.status == "RUNNING" and sweep.parent.alive is not False:
        return ", at work" if sweep.parent.alive else ", at work on another machine, or lost there"
    return ", stopped before its end" if sweep.parent.status == "KILLED" else ""
