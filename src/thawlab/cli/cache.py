"""`thawlab cache ls|rm|verify`: what lies in the feature cache, and getting rid of it."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from thawlab.config.nearest import nearest
from thawlab.data.feature_store.eviction import readable
from thawlab.data.feature_store.store import EntryInfo, FeatureStore
from thawlab.system.printable import one_line
from thawlab.system.surroundings import shown

_FROM_KEY = ("backbone", "depth", "dataset", "split", "views")
_SHOWN = 12  # digits of a name; those of 24 would leave no room for the rest of the table
_WIDE = 200  # columns, where nobody looks at them in a terminal
_AGES = (("d", 86_400), ("h", 3_600), ("min", 60))


class _UsageError(Exception):
    """What was asked for makes no sense; the message says why."""


def cache(arguments: Sequence[str]) -> int:
    """Do what the command line says; return the exit code: 1 if an entry is damaged or stays, 2 for a mistake."""
    options = _parser().parse_args(arguments)
    store = FeatureStore(Path(options.root), 0)
    found = store.entries()[::-1]  # what was used last comes first
    if not found and not getattr(options, "names", None):
        print(f"{one_line(options.root)}: nothing is cached there{_filling(store)}")
        return 0
    try:
        return {"ls": _list, "rm": _remove, "verify": _verify}[options.command](store, found, options)
    except _UsageError as error:
        print(shown(f"error: {error}"), file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("thawlab cache", description="The feature cache.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="ls|rm|verify")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--root", default="outputs/cache", help="folder of the cache (default: outputs/cache)")
    listing = commands.add_parser("ls", parents=[shared], help="list the entries, what was used last first")
    listing.add_argument("--max-gb", type=float, help="budget to compare their sum with")
    removing = commands.add_parser("rm", parents=[shared], help="remove entries")
    removing.add_argument("names", nargs="*", metavar="NAME", help="an entry, or how its name begins")
    removing.add_argument("--all", action="store_true", help="every entry")
    removing.add_argument("--older-than", type=float, metavar="DAYS", help="every entry not used for so many days")
    verifying = commands.add_parser(
        "verify", parents=[shared], help="read entries through; exit code 1 if one is damaged"
    )
    verifying.add_argument("names", nargs="*", metavar="NAME", help="an entry, or how its name begins (default: all)")
    verifying.add_argument("--remove", action="store_true", help="remove the damaged ones")
    return parser


def _list(store: FeatureStore, found: Sequence[EntryInfo], options: argparse.Namespace) -> int:
    table = Table("entry", *_FROM_KEY, "rows", "size", "hits", "last used", "filled in")
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.overflow = "fold"
    for column in table.columns[6:]:
        column.justify = "right"
    for each in found:
        about = [escape(one_line(str(each.key.get(name, "–")))) for name in _FROM_KEY]
        numbers = [
            f"{each.rows:,}",
            readable(each.bytes),
            str(each.hits),
            _age(each.last_used),
            f"{each.fill_seconds:.1f} s",
        ]
        table.add_row(each.name[:_SHOWN], *about, *numbers)
    console = Console(emoji=False)
    console = console if console.is_terminal else Console(width=max(console.width, _WIDE), emoji=False)
    console.print(table)
    total = sum(each.bytes for each in found)
    share = f", {total / options.max_gb / 1e7:.0f} % of {options.max_gb:g} GB" if options.max_gb else ""
    print(f"{_count(found)}, {readable(total)}{share}{_filling(store)}")
    return 0


def _chosen(found: Sequence[EntryInfo], options: argparse.Namespace) -> list[EntryInfo]:
    """The entries that are to be removed."""
    if bool(options.names) + options.all + (options.older_than is not None) != 1:
        raise _UsageError("rm: say which entries: NAME …, --all, or --older-than DAYS")
    if options.names:
        return _named(found, options.names)
    before = time.time() - 86_400 * (options.older_than or 0)
    return [each for each in found if options.all or each.last_used < before]


def _named(found: Sequence[EntryInfo], names: Sequence[str]) -> list[EntryInfo]:
    chosen = {}
    for name in names:
        fitting = [each for each in found if name and each.name.startswith(name)]
        if len(fitting) > 1:
            raise _UsageError(f"{name}: several entries begin so: {', '.join(each.name for each in fitting)}")
        if not fitting:
            near = nearest(name, [each.name[: max(len(name), _SHOWN)] for each in found])
            hint = f"nearest: {', '.join(near)}" if near else "`thawlab cache ls` lists them"
            raise _UsageError(f"{name}: no such entry; {hint}")
        chosen[fitting[0].name] = fitting[0]
    return list(chosen.values())


def _remove(store: FeatureStore, found: Sequence[EntryInfo], options: argparse.Namespace) -> int:
    return _removed(store, _chosen(found, options))


def _removed(store: FeatureStore, chosen: Sequence[EntryInfo]) -> int:
    gone = []
    for each in chosen:
        try:
            store.remove(each.name)
        except OSError as error:
            print(shown(f"error: {each.path}: cannot be removed: {error.strerror}"), file=sys.stderr)
            continue
        gone.append(each)
        print(shown(f"removed {each.name}: {_about(each)}, {readable(each.bytes)}"))
    print(f"{_count(gone)} removed, {readable(sum(each.bytes for each in gone))} freed{_filling(store)}")
    return 0 if len(gone) == len(chosen) else 1


def _verify(store: FeatureStore, found: Sequence[EntryInfo], options: argparse.Namespace) -> int:
    damaged = []
    for each in _named(found, options.names) if options.names else found:
        damage = store.damage(each.name)
        print(shown(f"{each.name}: {_about(each)}: " + (f"damaged: {damage}" if damage else "ok")), flush=True)
        if damage:
            damaged.append(each)
    if options.remove and damaged:
        _removed(store, damaged)
    return 1 if damaged else 0


def _about(entry: EntryInfo) -> str:
    named = {name: str(entry.key[name]) for name in _FROM_KEY[:-1] if name in entry.key}
    return ", ".join(f"depth {text}" if name == "depth" else text for name, text in named.items()) or "unknown"


def _filling(store: FeatureStore) -> str:
    count = store.being_filled()
    return f"; {count} being filled at this moment" if count else ""


def _count(entries: Sequence[EntryInfo]) -> str:
    return f"{len(entries)} entr{'y' if len(entries) == 1 else 'ies'}"


def _age(moment: float) -> str:
    seconds = max(0.0, time.time() - moment)
    for unit, length in _AGES:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
