"""Interactive plots of what happens class by class, and of all that varied."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from thawlab.compare.comparison import Comparison
from thawlab.compare.plots import chart_data, palette
from thawlab.compare.plots.chart_data import Axis
from thawlab.compare.plots.chart_list import axis_title
from thawlab.compare.plots.plotly_style import axis, base, safe
from thawlab.compare.wording import formats
from thawlab.compare.wording.table_columns import row_label, short_names
from thawlab.system.shortening import shortened

# Names of classes that are numbers would be an axis of numbers, with every second one named.
_EACH_CLASS = {"type": "category", "tickmode": "linear", "tick0": 0, "dtick": 1}


def confusion(comparison: Comparison) -> go.Figure:
    """Confusions of the best minus another's, which is chosen from a menu."""
    drawn = go.Figure()
    differences = chart_data.confusion_differences(comparison)
    limit = max(float(np.abs(each.values).max(initial=0)) for each in differences) * 100 or 1
    for number, each in enumerate(differences):
        names = _class_names(comparison, each.classes)
        drawn.add_heatmap(
            z=100 * each.values,
            x=names,
            y=names,
            visible=number == 0,
            zmin=-limit,
            zmax=limit,
            colorscale=palette.DIVERGING,
            xgap=1,
            ygap=1,
            colorbar={"title": {"text": "points"}, "thickness": 12, "outlinewidth": 0},
            hovertemplate="true %{y}<br>predicted %{x}<br>%{z:+.1f} points<extra></extra>",
        )
    count = len(differences[0].classes)
    each_class = {"showgrid": False, "tickfont": {"size": 9 if count > 20 else 12}, **_EACH_CLASS}
    long = any(len(comparison.classes[place]) > 6 for place in differences[0].classes)
    drawn.update_layout(
        base(160 + max(240, min(560, 24 * count))),
        xaxis=axis("predicted", **each_class, tickangle=-90 if long or count > 6 else 0),
        yaxis=axis("true", **each_class, autorange="reversed"),
        updatemenus=[_menu(comparison, [each.other for each in differences])],
    )
    return drawn


def classes(comparison: Comparison) -> go.Figure:
    """Share of each class that is right in the best minus in another, which is chosen from a menu."""
    drawn = go.Figure()
    differences = chart_data.class_differences(comparison)
    for number, each in enumerate(differences):
        names = _class_names(comparison, each.classes)
        values = 100 * each.values
        drawn.add_bar(
            x=values,
            y=names,
            orientation="h",
            visible=number == 0,
            marker={"color": [palette.COLOURS[0] if value >= 0 else palette.COLOURS[1] for value in values]},
            hovertemplate="%{y}: %{x:+.1f} points<extra></extra>",
        )
    drawn.update_layout(
        base(90 + max(110, 24 * len(differences[0].classes))),
        xaxis=axis("best minus the other (points)", zeroline=True, zerolinecolor="#7b8794"),
        yaxis=axis("", autorange="reversed", showgrid=False, **_EACH_CLASS),
        bargap=0.3,
        updatemenus=[_menu(comparison, [each.other for each in differences])],
    )
    return drawn


def parallel(comparison: Comparison) -> go.Figure:
    """A line for each configuration through the factors to the metric and its costs."""
    short = short_names(comparison.grouping.factors)
    axes = chart_data.parallel_axes(comparison)
    titles = {"factor": short, "metric": {comparison.metric: axis_title(comparison)}, "cost": {}}
    dimensions = [
        {
            "label": safe(titles[each.kind].get(each.name) or formats.metric_words(each.name)),
            "values": each.values,
            **(_word_ticks(each) if each.ticks else _number_ticks(each)),
        }
        for each in axes
    ]
    left = 20 + 7 * max((len(word) for word in dimensions[0].get("ticktext", ())), default=6)
    metric = next(each.values for each in axes if each.kind == "metric")
    drawn = go.Figure(
        go.Parcoords(
            dimensions=dimensions,
            line={
                "color": metric,
                "colorscale": palette.SEQUENTIAL,
                "reversescale": not comparison.higher_is_better,
            },
            labelfont={"size": 12},
            rangefont={"color": "rgba(0,0,0,0)"},
            tickfont={"size": 11},
        )
    )
    drawn.update_layout(base(400), margin={"l": left, "r": 80, "t": 44, "b": 16})
    return drawn


def _word_ticks(axis_found: Axis) -> dict[str, Any]:
    """The words themselves: here, and only here, plotly reads no tags."""
    count = len(axis_found.ticks)
    # Equal words would be drawn once, at the first of their places.
    words = shortened(axis_found.ticks)
    return {"range": [-0.15, max(count - 0.85, 0.15)], "tickvals": list(range(count)), "ticktext": words}


def _number_ticks(axis_found: Axis) -> dict[str, Any]:
    """Five ticks, written as elsewhere."""
    known = [value for value in axis_found.values if math.isfinite(value)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    ticks = np.linspace(low, high, 5)
    show = formats.count if axis_found.name.endswith("_params") else formats.plain
    return {"range": [low, high], "tickvals": ticks, "ticktext": [show(float(tick)) for tick in ticks]}


def _menu(comparison: Comparison, others: Sequence[int]) -> dict[str, Any]:
    """Shows one trace and hides the others."""
    buttons = [
        {
            "label": safe(f"minus {other + 1}  {row_label(comparison, other)}"),
            "method": "restyle",
            "args": [{"visible": [place == number for place in range(len(others))]}],
        }
        for number, other in enumerate(others)
    ]
    return {"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "showactive": True}


def _class_names(comparison: Comparison, places: Sequence[int]) -> list[str]:
    return [safe(name) for name in shortened([comparison.classes[place] for place in places])]
