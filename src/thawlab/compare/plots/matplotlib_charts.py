"""The plots of a comparison for paper: SVG and PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from thawlab.compare.comparison import Comparison, Row
from thawlab.compare.plots import chart_data, matplotlib_class_charts, palette, row_limits
from thawlab.compare.plots.chart_list import Chart, axis_title, charts, scale
from thawlab.compare.plots.matplotlib_style import label_axes, legend_below, sheet
from thawlab.compare.plots.point_labels import ON_PAPER, SIDES, numbers
from thawlab.compare.plots.row_groups import status_groups
from thawlab.compare.wording import formats
from thawlab.compare.wording.table_columns import row_label
from thawlab.console import left_out_if_it_fails
from thawlab.tracking.plot_fonts import lettering, literal
from thawlab.tracking.plots import GREY, INK, save_figure

_SYMBOLS = {"star": "*", "circle": "o", "diamond": "D"}


def write_pictures(comparison: Comparison, folder: Path) -> list[Path]:
    """Each plot that can be drawn as `<name>.svg` and `<name>.png`; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    # With a date, or ids drawn at random, the same comparison would give other files each time.
    with matplotlib.rc_context({"svg.hashsalt": "thawlab"}), lettering(_texts(comparison)):
        for chart in charts(comparison):
            with left_out_if_it_fails(f"the picture {chart.name}"):
                written += _written(comparison, chart, folder / f"{chart.name}.png")
    return written


def _written(comparison: Comparison, chart: Chart, path: Path) -> list[Path]:
    svg = path.with_suffix(".svg")
    try:
        drawn = picture(comparison, chart)
        save_figure(drawn, path, chart.title)
        drawn.set_layout_engine("none")  # it is laid out now
        FigureCanvasSVG(drawn).print_svg(svg, metadata={"Date": None, "Title": chart.title})
    except BaseException:
        for half_done in (svg, path):
            half_done.unlink(missing_ok=True)
        raise
    return [svg, path]


def _texts(comparison: Comparison) -> list[str]:
    """All that comes from outside and may stand in a picture."""
    labels = [row_label(comparison, place) for place in range(len(comparison.rows))]
    return [comparison.title, comparison.metric, *comparison.classes, *comparison.grouping.factors, *labels]


def picture(comparison: Comparison, chart: Chart) -> Figure:
    """One plot with its title."""
    match chart.kind:
        case "depth":
            return _depth(comparison, chart)
        case "dots":
            return _dots(comparison, chart)
        case "pareto":
            return _pareto(comparison, chart)
        case "curves":
            return _curves(comparison, chart)
        case "confusion":
            return matplotlib_class_charts.confusion(comparison, chart)
        case "classes":
            return matplotlib_class_charts.classes(comparison, chart)
        case "parallel":
            return matplotlib_class_charts.parallel(comparison, chart)


def _depth(comparison: Comparison, chart: Chart) -> Figure:
    lines, unit = chart_data.depth_lines(comparison, chart.key), scale(comparison)
    figure, axes = sheet(chart.title, 7.2, 4.2 + 0.2 * (len(lines) > 1) * len(lines))
    for number, line in enumerate(lines):
        rows = [comparison.rows[place] for place in line.places]
        shade, shift = palette.colour(number), 0.09 * (number - (len(lines) - 1) / 2) / max(1, len(lines) / 4)
        at = np.array(line.depths) + shift
        for x, row in zip(at, rows, strict=True):
            if len(row.values) > 1:
                axes.plot(
                    [x] * len(row.values), unit * np.array(row.values), "o", color=shade, alpha=0.35, markersize=3.5
                )
        axes.errorbar(
            at,
            [unit * row.estimate.mean for row in rows],
            yerr=_bars(rows, unit),
            color=shade,
            linewidth=2,
            capsize=3,
            elinewidth=1.3,
            marker=palette.MARKS_DRAWN[number % len(palette.MARKS_DRAWN)],
            markersize=6,
            linestyle=palette.DASHES_DRAWN[palette.turn(number)],
            label=literal(line.name) if len(lines) > 1 else None,
        )
    depths = sorted({depth for line in lines for depth in line.depths})
    axes.set_xticks(depths, [f"{depth:g}" for depth in depths])
    what = "frozen" if chart.key == "freeze" else "copied"
    label_axes(axes, f"{chart.key} depth: {what} up to and including this stage", axis_title(comparison))
    legend_below(figure, axes)
    return figure


def _dots(comparison: Comparison, chart: Chart) -> Figure:
    rows, unit = comparison.rows, scale(comparison)
    figure, axes = sheet(chart.title, 7.2, 1.7 + 0.34 * len(rows))
    for name, shade, symbol, places in status_groups(comparison):
        group = [rows[place] for place in places]
        means = [unit * row.estimate.mean for row in group]
        axes.errorbar(
            means,
            places,
            xerr=_bars(group, unit),
            color=shade,
            fmt=_SYMBOLS[symbol],
            capsize=3,
            elinewidth=1.5,
            markersize=12 if symbol == "star" else 7,
            label=name,
        )
    seeds = [(unit * value, place) for place, row in enumerate(rows) if len(row.values) > 1 for value in row.values]
    if seeds:
        axes.plot(*zip(*seeds, strict=True), "o", color=GREY, alpha=0.7, markersize=3, label="a seed", zorder=1)
    labels = [literal(f"{place + 1}  {row_label(comparison, place)}") for place in range(len(rows))]
    axes.set_yticks(range(len(rows)), labels, color=INK)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="x", color="#d9dee4", linewidth=0.7)
    axes.grid(axis="y", visible=False)
    label_axes(axes, axis_title(comparison), "")
    legend_below(figure, axes)
    return figure


def _pareto(comparison: Comparison, chart: Chart) -> Figure:
    rows, unit, cost = comparison.rows, scale(comparison), chart.key
    figure, axes = sheet(chart.title, 5.6, 4.2)
    front = chart_data.front(comparison, cost)
    axes.step(
        [rows[place].costs[cost] for place in front],
        [unit * rows[place].estimate.mean for place in front],
        where="post",
        color=palette.COLOURS[1],
        linewidth=1.8,
        label="front",
        zorder=1,
    )
    known = [place for place, row in enumerate(rows) if cost in row.costs]
    for name, shade, symbol, places in status_groups(comparison, known):
        axes.plot(
            [rows[place].costs[cost] for place in places],
            [unit * rows[place].estimate.mean for place in places],
            _SYMBOLS[symbol],
            color=shade,
            markersize=12 if symbol == "star" else 7,
            label=name,
        )
    for place, side in numbers(comparison, cost, ON_PAPER).items():
        right, up = SIDES[side]
        axes.annotate(
            str(place + 1),
            (rows[place].costs[cost], unit * rows[place].estimate.mean),
            (ON_PAPER.reach * right, ON_PAPER.reach * up),
            textcoords="offset points",
            ha=("center", "left", "right")[right],
            va=("center", "bottom", "top")[up],
            fontsize=8.5,
            color=INK,
        )
    if chart_data.wants_log([rows[place].costs[cost] for place in known]):
        axes.set_xscale("log")
    elif cost.endswith("_params"):
        axes.xaxis.set_major_formatter(lambda value, _: formats.count(value))
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.margins(y=0.12)
    label_axes(axes, formats.metric_words(cost), axis_title(comparison))
    legend_below(figure, axes)
    return figure


def _curves(comparison: Comparison, chart: Chart) -> Figure:
    places = row_limits.drawn_curves(comparison)
    figure, axes = sheet(chart.title, 7.2, 4.2 + 0.2 * len(places))
    for number, place in enumerate(row_limits.curve_places(comparison)):  # the interactive plot's colours
        if place not in places:
            continue
        epochs, values = chart_data.curve_of(comparison.rows[place])
        low, mean, high = (100 * values).T
        shade, dashes = palette.colour(number), palette.DASHES_DRAWN[palette.turn(number)]
        axes.fill_between(epochs, low, high, color=shade, alpha=0.14, linewidth=0)
        label = literal(f"{place + 1}  {row_label(comparison, place)}")
        axes.plot(epochs, mean, color=shade, linestyle=dashes, linewidth=1.9, label=label, **_point(epochs))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    label_axes(axes, "epoch", "validation accuracy (%)")
    legend_below(figure, axes)
    return figure


def _point(epochs: Sequence[int]) -> dict[str, Any]:
    return {"marker": "o", "markersize": 4} if len(epochs) < 4 else {}


def _bars(rows: Sequence[Row], unit: float) -> np.ndarray:
    """(2, rows) lengths below and above; 0 where no interval is known."""
    estimates = [row.estimate for row in rows]
    bars = [(unit * (each.mean - each.low), unit * (each.high - each.mean)) for each in estimates]
    return np.maximum(np.nan_to_num(np.array(bars).reshape(-1, 2).T), 0)
