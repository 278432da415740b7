"""A comparison as tables: a data frame, CSV with all digits, Markdown and LaTeX for reading."""

from pathlib import Path
from typing import Any

import pandas as pd

from thawlab.compare.comparison import Comparison
from thawlab.compare.report.latex import latex_table
from thawlab.compare.select.factors import caption
from thawlab.compare.wording.reference_row import difference_from, reference, reference_word
from thawlab.compare.wording.table_columns import columns, legend, row_label, seed_of
from thawlab.system.markdown import plain
from thawlab.system.printable import visible

# Spreadsheets compute a cell that begins so, once a tab or a line break before it is taken away.
_FORMULA = tuple("=+-@\t\n|＝＋－＠")


def frame(comparison: Comparison) -> pd.DataFrame:
    """A row for each configuration, with the values and ids of the runs behind it; all numbers as they are.

    `run_ids`, `seeds`, `values` and `pareto` hold several, separated by spaces. Differences are to the baseline if
    there is one, else to the best.
    """
    other = reference(comparison)
    rows = []
    for place, row in enumerate(comparison.rows):
        runs = row.configuration.runs
        found = difference_from(comparison, place, other)
        against = {} if found is None else vars(found)
        rows.append(
            {
                "place": place + 1,
                "configuration": row_label(comparison, place),
                **{name: row.configuration.factors.get(name) for name in comparison.grouping.factors},
                "metric": comparison.metric,
                **vars(row.estimate),
                "runs": len(runs),
                "best": row.is_best,
                "distinguishable": row.distinguishable,
                "compared_with": None if found is None else reference_word(comparison),
                **{name: against.get(key) for name, key in _DIFFERENCE.items()},
                **row.costs,
                "pareto": " ".join(sorted(row.pareto)),
                "seeds": " ".join(seed_of(run) for run in runs),
                "values": " ".join(repr(value) for value in row.values),
                "run_ids": " ".join(run.run_id for run in runs),
            }
        )
    return pd.DataFrame(rows)


_DIFFERENCE = {
    "difference": "value",
    "difference_low": "low",
    "difference_high": "high",
    "p": "p",
    "p_holm": "p_holm",
    "effect": "effect",
    "effect_measure": "measure",
    "test": "test",
}


def pairs_frame(comparison: Comparison) -> pd.DataFrame:
    """A row for each pair, the difference being first minus second, with the ids of the runs on both sides."""
    columns: list[str] = ["first", "second", *_DIFFERENCE, "first_run_ids", "second_run_ids"]
    rows: list[dict[str, Any]] = []
    for pair in comparison.pairs:
        sides = {"first": pair.first, "second": pair.second}
        names = {side: row_label(comparison, place) for side, place in sides.items()}
        runs = {
            f"{side}_run_ids": " ".join(run.run_id for run in comparison.rows[place].configuration.runs)
            for side, place in sides.items()
        }
        rows.append({**names, **{name: vars(pair.difference)[key] for name, key in _DIFFERENCE.items()}, **runs})
    return pd.DataFrame(rows, columns=columns)


def write_tables(comparison: Comparison, folder: Path) -> list[Path]:
    """Write `table.csv`, `table.md`, `table.tex` and `pairs.csv`; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in ("table.csv", "pairs.csv", "table.md", "table.tex")]
    for_spreadsheets(frame(comparison)).to_csv(paths[0], index=False, encoding="utf-8")
    for_spreadsheets(pairs_frame(comparison)).to_csv(paths[1], index=False, encoding="utf-8")
    paths[2].write_text(markdown(comparison), encoding="utf-8")
    paths[3].write_text(latex_table(comparison), encoding="utf-8")
    return paths


def markdown(comparison: Comparison) -> str:
    """The main table as GitHub shows it, with what was found above it and what is the same for all below."""
    shown = columns(comparison)
    lines = [*(plain(sentence) for sentence in comparison.conclusion), ""]
    lines.append(_line([plain(column.header) for column in shown]))
    lines.append(_line(["---:" if column.number else "---" for column in shown]))
    for place, row in enumerate(comparison.rows):
        cells = [plain(column.cells[place]) for column in shown]
        lines.append(_line([f"**{cell}**" for cell in cells] if row.is_best else cells))
    if words := legend(comparison, shown):
        lines += ["", f"{', '.join(words)}."]
    if shared := caption(comparison.grouping.constants):
        lines += ["", f"The same for all: {plain(shared)}."]
    lines += [f"\nNote: {plain(note)}" for note in comparison.notes]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def for_spreadsheets(table: pd.DataFrame) -> pd.DataFrame:
    """The table with `'` before texts, and names of columns, that a spreadsheet would compute; numbers stay numbers."""
    return table.map(_as_text).rename(columns=_as_text)


def _as_text(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    cell = visible(cell)  # a lone carriage return is not quoted, and begins a row for whoever reads the file
    if cell.lstrip(" ")[:1] not in _FORMULA:
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
