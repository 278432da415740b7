"""What all interactive figures share: their layout, axes, legends and error bars."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from thawlab.compare.comparison import Row
from thawlab.compare.wording.formats import broken

_CLEAR = "rgba(0,0,0,0)"
_GRID = "rgba(123,135,148,0.28)"  # seen on white and on a dark page
_INK = "#1f2933"


def base(height: int, legend: dict[str, Any] | None = None) -> dict[str, Any]:
    """A layout of so many pixels, the legend included; it has the page's background and fits any width."""
    room = legend.pop("room") if legend else 0
    return {
        "template": "none",
        "autosize": True,
        "height": height + room,
        "margin": {"l": 8, "r": 12, "t": 16, "b": 8, "autoexpand": True},
        "paper_bgcolor": _CLEAR,
        "plot_bgcolor": _CLEAR,
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": _INK},
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "showlegend": legend is not None,
        "legend": legend or {},
    }


def below(names: Sequence[str]) -> dict[str, Any]:
    """A legend of these entries below the plot, with the room that it takes on a narrow page."""
    lines = sum(1 + name.count("<br>") for name in names)
    place = {"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom", "tracegroupgap": 0}
    return {**place, "room": 19 * min(lines, 20)}


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis with a light grid that makes room for its own labels."""
    return {
        "title": {"text": title, "standoff": 8, "font": {"size": 13}},
        "automargin": True,
        "gridcolor": _GRID,
        "linecolor": _GRID,
        "zeroline": False,
        "fixedrange": False,
        **more,
    }


def error_bar(rows: Sequence[Row], unit: float, shade: str) -> dict[str, Any]:
    """Intervals; none where they are not known."""
    above = [unit * (row.estimate.high - row.estimate.mean) for row in rows]
    under = [unit * (row.estimate.mean - row.estimate.low) for row in rows]
    return {
        "type": "data",
        "symmetric": False,
        "array": [value if math.isfinite(value) else None for value in above],
        "arrayminus": [value if math.isfinite(value) else None for value in under],
        "color": shade,
        "thickness": 1.6,
        "width": 4,
    }


def safe(text: str) -> str:
    """Text as it stands: plotly reads tags, and what lies between dollar signs as a formula."""
    return escape(text).replace("$", "&#36;")


def wrapped(text: str, width: int = 28) -> str:
    """A label in lines of about so many characters, safe as `safe` is."""
    return "<br>".join(safe(line) for line in broken(text, width))
