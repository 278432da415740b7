"""Which plots make sense for a comparison, what they are called, and what they show in words."""

from dataclasses import dataclass
from typing import Literal

from thawlab.compare.comparison import Comparison
from thawlab.compare.plots import chart_data, row_limits
from thawlab.compare.plots.point_labels import ON_A_PAGE, numbers
from thawlab.compare.wording import formats
from thawlab.compare.wording.reference_row import best
from thawlab.compare.wording.table_columns import row_label

Kind = Literal["depth", "dots", "pareto", "curves", "confusion", "classes", "parallel"]


@dataclass(frozen=True)
class Chart:
    """A plot.

    Attributes:
        kind: what is drawn.
        name: of its files.
        title: its heading.
        text: what it shows, for those who cannot see it, and how to read it.
        key: the depth's factor, or the cost.
        more: what can be done with the interactive plot, but not with the picture.
    """

    kind: Kind
    name: str
    title: str
    text: str
    key: str = ""
    more: str = ""


def charts(comparison: Comparison) -> list[Chart]:
    """Those that the comparison has the numbers for, in the order in which they are read."""
    if not comparison.rows:
        return []
    found = [*_depths(comparison), *_dots(comparison), *_fronts(comparison), *_curves(comparison)]
    return [*found, *_classes(comparison), *_parallel(comparison)]


def axis_title(comparison: Comparison) -> str:
    """The metric with its unit."""
    name = formats.metric_words(comparison.metric)
    return f"{name} (%)" if comparison.percent else name


def scale(comparison: Comparison) -> int:
    """What the metric's values are multiplied by to be shown."""
    return 100 if comparison.percent else 1


def _best_words(comparison: Comparison) -> str:
    place = best(comparison) or 0
    value = formats.amount(comparison.rows[place].estimate.mean, comparison.percent)
    return f"{row_label(comparison, place)} with {value}"


def _level(comparison: Comparison) -> str:
    return f"{100 * comparison.level:g} % intervals"


def _depths(comparison: Comparison) -> list[Chart]:
    name = formats.metric_words(comparison.metric)
    result = []
    for key in chart_data.DEPTHS:
        if key in comparison.grouping.factors and (lines := chart_data.depth_lines(comparison, key)):
            lined = f"{len(lines)} lines" if len(lines) > 1 else "one line"
            text = (
                f"{name} against {key} depth, {lined}, with {_level(comparison)}; "
                f"faint points are single seeds. Best: {_best_words(comparison)}."
            )
            result.append(Chart("depth", f"depth_{key}", f"By {key} depth", text, key))
    return result


def _dots(comparison: Comparison) -> list[Chart]:
    text = (
        f"{formats.metric_words(comparison.metric)} of each configuration, the best on top, with {_level(comparison)}; "
        f"grey where it differs from the best beyond chance. Best: {_best_words(comparison)}."
    )
    return [Chart("dots", "configurations", "Configurations side by side", text)]


def _fronts(comparison: Comparison) -> list[Chart]:
    result = []
    for cost in chart_data.cost_names(comparison):
        words = formats.metric_words(cost)
        on_front = ", ".join(str(place + 1) for place in chart_data.front(comparison, cost))
        known = sum(1 for row in comparison.rows if cost in row.costs)
        where = "" if len(numbers(comparison, cost, ON_A_PAGE)) == known else ", where there is room for them,"
        text = (
            f"{formats.metric_words(comparison.metric)} against {words}; numbers{where} are places in the table. "
            f"On the front, the cheapest first: {on_front or 'none'}."
        )
        result.append(Chart("pareto", f"pareto_{cost.removeprefix('cost/')}", f"Against {words}", text, cost))
    return result


def _curves(comparison: Comparison) -> list[Chart]:
    drawn, named = row_limits.drawn_curves(comparison), row_limits.curve_places(comparison)
    if not drawn:
        return []
    count, left = len(comparison.rows), len(named) - len(drawn)
    which = "each configuration"
    if left:
        which = f"{len(drawn)} of {count} configurations, the best {len(drawn) - 1} and the worst"
    elif len(drawn) < count:
        which = f"the {len(drawn)} of {count} configurations that recorded it"
    text = f"Validation accuracy by epoch of {which}: the mean over its seeds, in a band from lowest to highest."
    more = f"{left} more can be switched on in the legend." if left else ""
    return [Chart("curves", "learning_curves", "Learning curves", text, more=more)]


def _classes(comparison: Comparison) -> list[Chart]:
    differences = chart_data.confusion_differences(comparison)
    if not differences or not comparison.classes:
        return []
    shown = len(differences[0].classes)
    count = len(comparison.classes)
    which = f" The {shown} of {count} classes that differ most." if shown < count else ""
    first = row_label(comparison, best(comparison) or 0)
    confusion = (
        f"Confusion matrix of the best ({first}) minus another's, in points of the true class; on the diagonal blue is "
        f"what the best gets right more often, off it orange is a mistake that it makes less often.{which}"
    )
    recall = f"Share of each class that is right: the best ({first}) minus another, in points.{which}"
    return [
        Chart("classes", "classes", "Class by class", recall),
        Chart("confusion", "confusion_differences", "What is taken for what", confusion),
    ]


def _parallel(comparison: Comparison) -> list[Chart]:
    factors = comparison.grouping.factors
    if len(factors) < 2 or len(comparison.rows) < 2:
        return []
    text = (
        f"A line for each configuration through {', '.join(factors)} to its {formats.metric_words(comparison.metric)} "
        "and costs, from orange, the worst, to blue, the best."
    )
    return [Chart("parallel", "parallel_coordinates", "What varied", text)]
