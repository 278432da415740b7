"""The main table of a comparison as columns of text, which the terminal, Markdown, LaTeX and the page share."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from thawlab.compare.comparison import Comparison, Configuration
from thawlab.compare.wording import formats
from thawlab.compare.wording.reference_row import difference_from, reference, reference_word
from thawlab.tracking.select_runs import RunRecord

BEST, LEVEL_WITH_BEST, FRONT, DIVERGED = "★", "≈", "◆", "†"
_LEGEND = (
    (BEST, "best mean"),
    (LEVEL_WITH_BEST, "not distinguishable from the best"),
    (FRONT, "nothing else is both better and cheaper"),
    (DIVERGED, "some of its runs diverged, and do not count"),
)
_TELLING = ("backbone.name", "strategy.name", "freeze")  # constants that name a configuration that is alone
_TABLE_COSTS = {"cost/trainable_params": "trained", "cost/seconds": "seconds"}


@dataclass(frozen=True)
class Column:
    """A column of the main table.

    Attributes:
        header: its head.
        cells: one a row of the comparison.
        number: whether it is set flush right.
        spare: 0 for what must be shown; where there is no room, the column with the highest goes first.
    """

    header: str
    cells: tuple[str, ...]
    number: bool = True
    spare: int = 0


def columns(comparison: Comparison) -> list[Column]:
    """All columns, in their order; marks that need a column which is left out stand beside the place instead."""
    factors = _factor_columns(comparison)
    return [_places(comparison), *factors, *_metric_columns(comparison), *_cost_columns(comparison)]


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Factors by their last word where it tells them apart: `optimizer.lr` → `lr`, but `backbone.name` → `backbone`."""
    short = {name: name.removesuffix(".name").rpartition(".")[2] for name in names}
    often = Counter(short.values())
    return {name: word if often[word] == 1 else name for name, word in short.items()}


def factor_label(configuration: Configuration, names: Sequence[str], short: dict[str, str], between: str = " ") -> str:
    """Some factors of a configuration: `freeze=2 lr=0.01`."""
    parts = [f"{short[name]}={configuration.factors[name]}" for name in names if name in configuration.factors]
    return between.join(parts)


def row_label(comparison: Comparison, place: int, between: str = " ") -> str:
    """A configuration by all factors that vary; where nothing does by its run's name, or by what its runs share."""
    configuration = comparison.rows[place].configuration
    names = comparison.grouping.factors
    if text := factor_label(configuration, names, short_names(names), between) or configuration.label:
        return text
    if len(configuration.runs) == 1:
        return configuration.runs[0].name
    known = {key: value for key, value in comparison.grouping.constants.items() if key in _TELLING}
    told = between.join(f"{short}={known[name]}" for name, short in short_names(list(known)).items())
    return told or formats.UNKNOWN


def seed_of(run: RunRecord) -> str:
    """The seed it was run with."""
    return run.params.get("seed", formats.UNKNOWN)


def marks(comparison: Comparison, place: int) -> str:
    """Best, or not to be told from the best."""
    row = comparison.rows[place]
    if row.is_best:
        return BEST
    return "" if row.distinguishable else LEVEL_WITH_BEST


def legend(comparison: Comparison, shown: Sequence[Column]) -> list[str]:
    """What the marks in these columns mean, and the unit of the differences."""
    used = "".join(cell for column in shown for cell in column.cells)
    words = [f"{mark} {words}" for mark, words in _LEGEND if mark in used]
    if comparison.percent and any(column.header.startswith("vs ") for column in shown):
        words.append("differences in points")
    if any(column.header == _TABLE_COSTS["cost/seconds"] for column in shown):
        words.append("seconds: training and computing stored activations, which a sweep's first runs do for all")
    return words


def _places(comparison: Comparison) -> Column:
    cells = [f"{place + 1} {marks(comparison, place)}".strip() for place in range(len(comparison.rows))]
    return Column("#", tuple(cells), number=False)


def _factor_columns(comparison: Comparison) -> list[Column]:
    names = comparison.grouping.factors
    if not names:
        places = range(len(comparison.rows))
        return [Column("configuration", tuple(row_label(comparison, place) for place in places), number=False)]
    short = short_names(names)
    found = [row.configuration.factors for row in comparison.rows]
    return [
        Column(short[name], tuple(factors.get(name, formats.UNKNOWN) for factors in found), number=False)
        for name in names
    ]


def _metric_columns(comparison: Comparison) -> list[Column]:
    rows, percent = comparison.rows, comparison.percent
    estimates, configurations = [row.estimate for row in rows], [row.configuration for row in rows]
    other = reference(comparison)
    found = [difference_from(comparison, place, other) for place in range(len(rows))]
    name = formats.metric_words(comparison.metric)
    result = [
        Column(name, tuple(formats.amount(estimate.mean, percent) for estimate in estimates)),
        Column(
            f"{100 * comparison.level:g} % interval",
            tuple(formats.interval(estimate.low, estimate.high, percent) for estimate in estimates),
            spare=1,
        ),
        Column("± sd", tuple(formats.spread(estimate.sd, percent) for estimate in estimates), spare=7),
        Column(
            "runs" if comparison.grouping.pooled else "seeds",
            tuple(f"{len(each.runs)}{f' {DIVERGED}' if each.diverged else ''}" for each in configurations),
            spare=4,
        ),
    ]
    if any(found):
        versus = [formats.difference(each.value, percent) if each else formats.UNKNOWN for each in found]
        result.append(Column(f"vs {reference_word(comparison)}", tuple(versus), spare=2))
        p_values = [formats.p_value(each.p_holm) if each else formats.UNKNOWN for each in found]
        result.append(Column("p (Holm)", tuple(p_values), spare=3))
    return result


def _cost_columns(comparison: Comparison) -> list[Column]:
    result = []
    for spare, (name, header) in zip((5, 6), _TABLE_COSTS.items(), strict=True):
        if name == comparison.metric or not any(name in row.costs for row in comparison.rows):
            continue
        cells = [
            f"{formats.cost(name, row.costs.get(name, float('nan')))}{f' {FRONT}' if name in row.pareto else ''}"
            for row in comparison.rows
        ]
        result.append(Column(header, tuple(cells), spare=spare))
    return result
