"""What a run says in the terminal: its stages, its epochs, its result; and the progress bar."""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import nan
from textwrap import wrap
from time import monotonic
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from thawlab.system.printable import one_line
from thawlab.system.process_rank import process_rank
from thawlab.system.surroundings import shown

_NAMES = 14  # characters that names take, with the space behind them


class Screen(Console):
    """A terminal that shows no password, and obeys nothing that stands in a name: all text for it comes through here.

    What is rich's markup in a name has to be escaped by whoever prints it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, emoji=False, **options)  # `:cat:` may be a class

    def render_str(self, text: str, **options: Any) -> Text:
        """Text of any kind, cells and titles of tables included."""
        return super().render_str(shown(text), **options)


terminal = Screen(soft_wrap=not sys.stdout.isatty())


def show_start(title: str, facts: Mapping[str, object], notes: Sequence[str]) -> None:
    """What is about to be trained on what."""
    terminal.rule(f"[bold]{_name(title)}")
    for name, value in facts.items():
        terminal.print(f"[dim]{name:>12}[/]  ", end="")
        terminal.print(_beside(one_line(str(value))), markup=False)
    for note in notes:
        show_note(note)


def show_note(text: str) -> None:
    """What the user should know while it happens."""
    terminal.print(f"[yellow]{'note':>12}[/]  ", end="")
    terminal.print(_beside(text), markup=False)


def _beside(text: str) -> str:
    """A text as it stands beside its name: on a terminal in lines that leave the name's column free."""
    if not terminal.is_terminal:
        return text
    lines = wrap(text, max(terminal.width - _NAMES, 20), break_long_words=False, break_on_hyphens=False)
    return f"\n{'':{_NAMES}}".join(lines)


@contextmanager
def left_out_if_it_fails(what: str) -> Iterator[None]:
    """Go on without a picture or a page that cannot be made, and say so: no number is lost for its sake."""
    try:
        yield
    except Exception as error:  # a font, a disk, a name: drawing libraries raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        show_note(f"{what} is left out: it could not be made ({reason})")


def _name(value: object) -> str:
    """Text from outside inside of markup: in one line, as it stands."""
    return escape(one_line(str(value)))


def show_cache(what: str, stage: str, images: Mapping[str, tuple[int, int]], done: Mapping[str, float]) -> None:
    """From which stored activations training goes on; `images` tells of each split how many views of how many images.

    Args:
        what: the phase, or the test.
        stage: the last one that is stored.
        images: by split.
        done: `hits` and `filled` entries, `mb` and `seconds`.
    """
    parts = [f"{name} {f'{views} × ' if views > 1 else ''}{count:,}" for name, (views, count) in images.items()]
    how = "found" if not done["filled"] else "computed" if not done["hits"] else "partly found"
    terminal.print(
        f"[dim]{'cache':>12}[/]  {_name(what)} goes on from stored activations of {_name(stage)}: "
        f"{', '.join(parts)} images, {done['mb']:,.1f} MB, {how} in {done['seconds']:.1f} s"
    )


def show_stages(phase: Mapping) -> None:
    """A phase as a table: each stage with its parameters, frozen or its learning rate."""
    epochs = f"{phase['epochs']} epoch{'s' if phase['epochs'] > 1 else ''}"
    table = Table(title=f"phase {_name(phase['phase'])}, {epochs}", title_justify="left")
    table.add_column("stage")
    table.add_column("parameters", justify="right")
    table.add_column("trained", justify="right")
    table.add_column("frozen or learning rate", justify="right")
    for stage in phase["stages"]:
        table.add_row(_name(stage["name"]), f"{stage['parameters']:,}", f"{stage['trained']:,}", _rate(stage))
    terminal.print(table)


def _rate(stage: Mapping) -> str:
    if stage["frozen"]:
        return "[blue]frozen[/]"
    return ", ".join(f"{lr:.2g}" for lr in stage["lr"]) if stage["lr"] else "solved for"


def show_phase(number: int, phases: int, name: str) -> None:
    """Which phase begins."""
    terminal.print(f"phase {number}/{phases}: {_name(name)}")


def show_epoch(epoch: int, epochs: int, metrics: Mapping[str, float], seconds: float) -> None:
    """One line an epoch; the progress bar shows what lies between."""
    terminal.print(
        f"epoch {epoch + 1:>{len(str(epochs))}}/{epochs}   "
        f"train loss {metrics['train/loss']:.4f}  acc {metrics['train/acc']:.4f}   "
        f"val loss {metrics['val/loss']:.4f}  acc {metrics['val/acc']:.4f}   {seconds:.1f} s"
    )


def show_heads_epoch(epoch: int, epochs: int, metrics: Mapping[str, float], best: str) -> None:
    """One line an epoch of many heads.

    Args:
        epoch: from 0.
        epochs: in all.
        metrics: `best` and `median` of the heads' val acc, median `train/loss`, `seconds`, how many `diverged`.
        best: the settings of the best head, and how many are as good.
    """
    diverged = f"   {metrics['diverged']:.0f} diverged" if metrics["diverged"] else ""
    terminal.print(
        f"epoch {epoch + 1:>{len(str(epochs))}}/{epochs}   median train loss {metrics['train/loss']:.4f}   "
        f"val acc median {metrics['median']:.4f}  best {metrics['best']:.4f} ({_name(best)}){diverged}   "
        f"{metrics['seconds']:.1f} s"
    )


def show_result(metrics: Mapping[str, float], interval: str, audited: str, run_id: str, look: str, folder: str) -> None:
    """The end of a run: test metrics, how sure the first of them is, cost, and where to look."""
    lines = Table.grid(padding=(0, 2))
    quality = [f"{name.removeprefix('test/')} {value:.4f}" for name, value in metrics.items() if name[:5] == "test/"]
    lines.add_row("[bold]test[/]", "[bold]" + "   ".join(quality[:1]) + "[/]   " + "   ".join(quality[1:]))
    lines.add_row("interval", interval)
    lines.add_row("best epoch", f"{metrics['best/epoch'] + 1:.0f}, val acc {metrics['best/val_acc']:.4f}")
    lines.add_row(
        "cost",
        f"{metrics['cost/fit_seconds']:.0f} s training, {metrics['cost/images_per_second']:.0f} images/s, "
        f"{metrics['cost/peak_memory_mb']:.0f} MB, {metrics['cost/trainable_params']:,.0f} of "
        f"{metrics['cost/total_params']:,.0f} parameters trained",
    )
    for name, value in (("audit", audited), ("run", run_id), ("files", folder), ("look at it", look)):
        lines.add_row(name, _name(value))
    terminal.print(Panel(lines, title="result", title_align="left"))


def show_sweep(rows: Sequence[Mapping], title: str) -> None:
    """All jobs of a sweep: status, validation and test accuracy, seconds, run."""
    table = Table(title=_name(title), title_justify="left")
    for name in ("run", "settings", "status", "val acc", "test acc", "seconds", "MLflow run"):
        right = name in ("val acc", "test acc", "seconds")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in rows:
        metrics = row["metrics"]
        accuracies = [f"{metrics[name]:.4f}" if name in metrics else "–" for name in ("best/val_acc", "test/acc")]
        color = "green" if row["status"] == "FINISHED" else "red"
        status = f"[{color}]{row['status']}[/]"
        table.add_row(
            str(row["number"]), _name(row["label"]), status, *accuracies, f"{row['seconds']:.0f}", row["run_id"] or "–"
        )
    terminal.print(table)


def show_heads(rows: Sequence[Mapping], best: Collection[int]) -> None:
    """All heads that were trained together.

    Args:
        rows: of each head `number`, `settings` by name, `status`, `metrics`, `run_id`, and whether it `diverged`.
        best: the numbers of those that stand out.
    """
    table = Table(title=f"{len(rows)} heads", title_justify="left")
    settings = [key.rpartition(".")[2] for key in rows[0]["settings"]]
    for name in ("", *settings, "val acc", "test acc"):
        table.add_column(_name(name.replace("_", " ")), justify="right", no_wrap="acc" in name or not name)
    table.add_column("MLflow run", overflow="fold")
    for row in rows:
        accuracies = [f"{row['metrics'].get(name, nan):.4f}" for name in ("best/val_acc", "test/acc")]
        shown = (
            accuracies
            if row["status"] == "FINISHED"
            else [f"[red]{'diverged' if row['diverged'] else 'failed'}[/]", "–"]
        )
        chosen = row["number"] in best
        number = f"★ {row['number']}" if chosen else str(row["number"])
        values = [_name(value) for value in row["settings"].values()]
        table.add_row(number, *values, *shown, row["run_id"], style="bold" if chosen else None)
    terminal.print(table)


def show_rerun(rows: Sequence[tuple[str, float | None, float | None]]) -> None:
    """Each metric of a run and of its repetition, side by side; None where one of them lacks it."""
    table = Table(title="then and now", title_justify="left")
    table.add_column("metric")
    for name in ("then", "now", "difference"):
        table.add_column(name, justify="right")
    for name, then, now in rows:
        values = ["–" if value is None else f"{value:.6g}" for value in (then, now)]
        difference = "–" if then is None or now is None else "0" if then == now else f"{now - then:+.2g}"
        table.add_row(_name(name), *values, difference)
    terminal.print(table)


@contextmanager
def progress(description: str, total: float | None, after: float = 0.0) -> Iterator[Callable[[float], None]]:
    """A bar on standard error for what takes a while before training, if that is a terminal; yields what advances it.

    Of the processes of a run one shows it.

    Args:
        description: what is done.
        total: in steps; None if that is not known.
        after: seconds before it appears, so that what is over sooner shows none.
    """
    console, began = Console(stderr=True), monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shows = process_rank() == 0 and console.is_terminal
    bar = Progress(*columns, console=console, transient=True, disable=not shows)
    task = bar.add_task(description, total=total)

    def advance(steps: float = 1) -> None:
        bar.advance(task, steps)
        if monotonic() - began >= after:
            bar.start()

    try:
        advance(0)
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()
