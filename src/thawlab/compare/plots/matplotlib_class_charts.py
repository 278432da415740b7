"""Class by class, and all that varied, for paper: panels in the place of menus."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from thawlab.compare.comparison import Comparison
from thawlab.compare.plots import chart_data, palette, row_limits
from thawlab.compare.plots.chart_data import Axis, Versus
from thawlab.compare.plots.chart_list import Chart, axis_title
from thawlab.compare.plots.matplotlib_style import label_axes, panels, sheet
from thawlab.compare.wording import formats
from thawlab.compare.wording.table_columns import row_label, short_names
from thawlab.system.shortening import shortened
from thawlab.tracking.plot_fonts import literal
from thawlab.tracking.plots import GREY, INK, LINE, plain_axes

_DIVERGING = LinearSegmentedColormap.from_list("differences", list(palette.DIVERGING))
_SEQUENTIAL = LinearSegmentedColormap.from_list("worst to best", list(palette.SEQUENTIAL))


def confusion(comparison: Comparison, chart: Chart) -> Figure:
    """Confusions of the best minus those of a few others."""
    differences = _panels(comparison, chart_data.confusion_differences(comparison))
    limit = 100 * max(float(np.abs(each.values).max(initial=0)) for each in differences) or 1.0
    count = len(differences[0].classes)
    side = float(np.clip(2.2 + 0.22 * count, 3.6, 7))
    figure, found = panels(chart.title, len(differences), side + 0.4, side)
    for axes, each in zip(found, differences, strict=True):
        names = _class_names(comparison, each)
        axes.imshow(100 * each.values, cmap=_DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest")
        size = 8 if count <= 12 else 5.5
        axes.set_xticks(range(count), names, rotation=90, fontsize=size, color=INK)
        axes.set_yticks(range(count), names, fontsize=size, color=INK)
        axes.tick_params(length=0)
        axes.spines[:].set_color(LINE)
        label_axes(axes, "predicted", "true")
        _name_panel(axes, comparison, each)
    colours = ScalarMappable(Normalize(-limit, limit), _DIVERGING)
    bar = figure.colorbar(colours, ax=found, fraction=0.04, pad=0.02, aspect=30)
    bar.set_label("best minus the other (points of the true class)", fontsize=9, color=GREY)
    bar.ax.tick_params(labelsize=8, colors=GREY, length=2)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    return figure


def classes(comparison: Comparison, chart: Chart) -> Figure:
    """Share of each class that is right: the best minus a few others."""
    differences = _panels(comparison, chart_data.class_differences(comparison))
    count = len(differences[0].classes)
    low = min(0.0, *(100 * each.values.min() for each in differences))
    high = max(0.0, *(100 * each.values.max() for each in differences))
    room = 0.05 * (high - low) or 1.0
    figure, found = panels(chart.title, len(differences), 4.4, float(np.clip(1.2 + 0.24 * count, 2, 8)))
    for axes, each in zip(found, differences, strict=True):
        plain_axes(axes)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", color=LINE, linewidth=0.7)
        values = 100 * each.values
        shades = [palette.COLOURS[0] if value >= 0 else palette.COLOURS[1] for value in values]
        axes.barh(range(count), values, color=shades, height=0.7)
        axes.axvline(0, color=GREY, linewidth=0.9)
        names = _class_names(comparison, each)
        axes.set_yticks(range(count), names, fontsize=8.5 if count <= 16 else 6.5, color=INK)
        axes.set_ylim(count - 0.4, -0.6)
        axes.set_xlim(low - room, high + room)
        label_axes(axes, "best minus the other (points)", "")
        _name_panel(axes, comparison, each)
    return figure


def parallel(comparison: Comparison, chart: Chart) -> Figure:
    """A line for each configuration through the factors to the metric and its costs."""
    axes_found = chart_data.parallel_axes(comparison)
    figure, axes = sheet(chart.title, max(7.2, 1.6 * len(axes_found)), 4.2)
    heights = np.array([_height(each) for each in axes_found])  # (axes, rows)
    metric = next(place for place, each in enumerate(axes_found) if each.kind == "metric")
    goodness = heights[metric] if comparison.higher_is_better else 1 - heights[metric]
    for row in range(heights.shape[1] - 1, -1, -1):  # the best, which comes first, on top
        axes.plot(heights[:, row], color=_SEQUENTIAL(Normalize(0, 1)(goodness[row])), linewidth=2.2, alpha=0.9)
    short = short_names(comparison.grouping.factors)
    for place, each in enumerate(axes_found):
        axes.axvline(place, color=GREY, linewidth=0.8, zorder=0)
        for height, text in _ticks(each):
            axes.annotate(
                literal(text),
                (place, height),
                (5, 3),
                textcoords="offset points",
                fontsize=8,
                color=INK,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6},
            )
    titles = [short.get(each.name) or formats.metric_words(each.name) for each in axes_found]
    titles[metric] = axis_title(comparison)
    axes.set_xticks(range(len(titles)), [literal(title) for title in titles], color=INK)
    axes.set_xlim(-0.1, len(titles) - 0.4)
    axes.set_ylim(-0.06, 1.09)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return figure


def _height(axis: Axis) -> np.ndarray:
    values = np.array(axis.values, dtype=float)
    low, high = (0.0, float(max(len(axis.ticks) - 1, 1))) if axis.ticks else (np.nanmin(values), np.nanmax(values))
    return np.full_like(values, 0.5) if high == low else (values - low) / (high - low)


def _ticks(axis: Axis) -> list[tuple[float, str]]:
    if axis.ticks:
        return [(place / max(len(axis.ticks) - 1, 1), word) for place, word in enumerate(shortened(axis.ticks, 22))]
    low, high = float(np.nanmin(axis.values)), float(np.nanmax(axis.values))
    show = formats.count if axis.name.endswith("_params") else formats.plain
    return [(0.5, show(low))] if low == high else [(0.0, show(low)), (1.0, show(high))]


def _panels(comparison: Comparison, differences: list[Versus]) -> list[Versus]:
    chosen = row_limits.compared_on_paper(comparison, [each.other for each in differences])
    return [each for each in differences if each.other in chosen]


def _name_panel(axes: Axes, comparison: Comparison, each: Versus) -> None:
    lines = formats.broken(f"minus {each.other + 1}  {row_label(comparison, each.other)}", 32)[:3]
    axes.set_title(literal("\n".join(lines)), loc="left", fontsize=9, color=INK)


def _class_names(comparison: Comparison, each: Versus) -> list[str]:
    return [literal(name) for name in shortened([comparison.classes[place] for place in each.classes])]
