"""A comparison in the terminal: what was found, the table, and what limits it."""

from collections.abc import Sequence
from dataclasses import replace
from io import StringIO

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from thawlab.compare.comparison import Comparison
from thawlab.compare.select.factors import caption
from thawlab.compare.wording.table_columns import FRONT, Column, columns, legend

_ENDLESS = 100_000


def show(comparison: Comparison, console: Console) -> None:
    """Print it; what is redirected into a file comes out plain and is not cut, however wide it gets."""
    console.rule(f"[bold]{escape(comparison.title)}") if console.is_terminal else _say(console, comparison.title)
    for sentence in comparison.conclusion:
        _say(console, sentence, "bold")
    if comparison.rows:
        _show_table(comparison, console)
    if shared := caption(comparison.grouping.constants, " "):
        _say(console, f"the same for all: {shared}", "dim")
    if comparison.grouping.excluded:
        count = len(comparison.grouping.excluded)
        _say(console, f"left out: {count} run{'s' if count > 1 else ''}", "dim")
        for each in comparison.grouping.excluded:
            _say(console, f"  {each.run.run_id}  {each.reason}  ({each.run.name})", "dim")
    for note in comparison.notes:
        _say(console, f"note: {note}", "yellow")


def _show_table(comparison: Comparison, console: Console) -> None:
    everything = columns(comparison)
    if not console.is_terminal:
        plain = Console(file=StringIO(), width=_ENDLESS, color_system=None)
        with plain.capture() as written:
            plain.print(_table(comparison, everything))
        lines = [line.rstrip() for line in written.get().splitlines()]
        console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
        shown = everything
    else:
        shown = _fitting(comparison, everything, console)
        console.print(_table(comparison, shown))
    _say(console, "   ".join(legend(comparison, shown)), "dim")
    left_out = [column.header for column in everything if column.header not in {each.header for each in shown}]
    if left_out:
        _say(console, f"not shown at this width: {', '.join(left_out)}", "dim")


def _fitting(comparison: Comparison, everything: Sequence[Column], console: Console) -> list[Column]:
    """As many columns as the width has room for; the most dispensable go first."""
    shown = list(everything)
    while console.measure(_table(comparison, shown), options=_endless(console)).maximum > console.width:
        spare = max(shown, key=lambda column: column.spare)
        if not spare.spare:
            break  # long settings wrap then
        shown.remove(spare)
    gone = {column.header for column in everything} - {column.header for column in shown}
    if gone & {"trained", "seconds"}:
        # The mark of the front stood in a column that is gone.
        cells = [
            f"{cell} {FRONT}" if row.pareto else cell for cell, row in zip(shown[0].cells, comparison.rows, strict=True)
        ]
        shown[0] = replace(shown[0], cells=tuple(cells))
    return shown


def _endless(console: Console):
    return console.options.update(width=_ENDLESS)


def _table(comparison: Comparison, shown: Sequence[Column]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, collapse_padding=True, header_style="bold")
    for column in shown:
        fixed = column.number or column.header == "#"
        table.add_column(
            escape(column.header), justify="right" if column.number else "left", no_wrap=fixed, overflow="fold"
        )
    for place, row in enumerate(comparison.rows):
        style = "bold green" if row.is_best else None if not row.distinguishable else "dim"
        table.add_row(*(escape(column.cells[place]) for column in shown), style=style)
    return table


def _say(console: Console, text: str, style: str | None = None) -> None:
    """A line of text as it stands; wrapped in a terminal, in one piece elsewhere."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=not console.is_terminal)
