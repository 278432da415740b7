"""The main table of a comparison in LaTeX."""

from thawlab.compare.comparison import Comparison
from thawlab.compare.select.factors import caption
from thawlab.compare.wording.formats import MINUS, UNKNOWN, metric_words
from thawlab.compare.wording.table_columns import BEST, DIVERGED, FRONT, LEVEL_WITH_BEST, columns

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    MINUS: "$-$",
    UNKNOWN: "--",
    "±": r"$\pm$",
    "×": r"$\times$",
    "…": r"\ldots{}",
    BEST: r"$\star$",
    LEVEL_WITH_BEST: r"$\approx$",
    DIVERGED: r"$\dagger$",
    FRONT: r"$\diamond$",
}


def latex_table(comparison: Comparison) -> str:
    r"""A `table` for the packages booktabs and graphicx: the best in bold, what is the same for all in the caption."""
    shown = columns(comparison)
    lines = [
        r"% needs \usepackage[T1]{fontenc}, \usepackage{booktabs} and \usepackage{graphicx}",
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{_caption(comparison)}}}",
        r"  \resizebox{\ifdim\width>\linewidth \linewidth\else \width\fi}{!}{%  as wide as the text at most",
        f"  \\begin{{tabular}}{{{''.join('r' if column.number else 'l' for column in shown)}}}",
        r"    \toprule",
        _line([escaped(column.header) for column in shown]),
        r"    \midrule",
    ]
    for place, row in enumerate(comparison.rows):
        cells = [escaped(column.cells[place]) for column in shown]
        lines.append(_line([f"\\textbf{{{cell}}}" for cell in cells] if row.is_best else cells))
    return "\n".join([*lines, r"    \bottomrule", r"  \end{tabular}}", r"\end{table}", ""])


def escaped(text: str) -> str:
    """Text as it stands."""
    return "".join(_ESCAPES.get(sign, sign) for sign in " ".join(text.split()))


def _line(cells: list[str]) -> str:
    return f"    {' & '.join(cells)} \\\\"


def _caption(comparison: Comparison) -> str:
    level = f"{100 * comparison.level:g} %"
    parts = [f"{comparison.title}: {metric_words(comparison.metric)} with {level} intervals."]
    parts.append(
        f"{BEST} best mean, {LEVEL_WITH_BEST} not distinguishable from it, {FRONT} on the front of metric and cost."
    )
    if shared := caption(comparison.grouping.constants):
        parts.append(f"The same for all: {shared}.")
    return escaped(" ".join(parts))
