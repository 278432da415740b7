"""The picture a sweep over depths keeps: test accuracy against freeze depth or transfer depth."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes

from thawlab.tracking.plots import GREY, INK, add_legend, new_figure, plain_axes, save_figure

# Okabe and Ito's colours, which the colour-blind can tell apart.
_COLOURS = ("#1a6fb5", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b7785", "#000000")
_AXIS = {
    "freeze": "freeze depth: frozen up to and including this stage",
    "transfer": "transfer depth: copied up to and including this stage",
}


def depth_curves(
    rows: Sequence[Mapping[str, Any]],
    path: Path,
    key: Literal["freeze", "transfer"],
    stage_names: Sequence[str] = (),
    title: str = "",
) -> None:
    """Draw a line for each series: the mean of its runs at each depth, and one standard deviation either side.

    Args:
        rows: one mapping a run with `depth`, `test/acc` (a share) and, where there are several lines, `series`; a run
            without an accuracy is left out.
        path: the PNG.
        key: which depth it is.
        stage_names: the names of stages 1…K, to be written below the depths.
        title: what was trained on what.
    """
    finite = [row for row in rows if np.isfinite(row.get("test/acc", np.nan))]
    depths = sorted({row["depth"] for row in finite})
    series = list(dict.fromkeys(str(row.get("series", "")) for row in finite))
    figure = new_figure(max(7.2, 0.72 * len(depths)), 4.2)
    axes = figure.subplots()
    plain_axes(axes)
    for name, colour in zip(series, _COLOURS * len(series), strict=False):
        _line(axes, [row for row in finite if str(row.get("series", "")) == name], name, colour, len(series) == 1)
    axes.set_xticks(depths, [_depth_label(depth, stage_names) for depth in depths])
    axes.set_xlabel(_AXIS[key], fontsize=9.5, color=GREY)
    axes.set_ylabel("test accuracy (%)", fontsize=9.5, color=GREY)
    axes.set_title(title or f"Test accuracy by {key} depth", loc="left", fontsize=12, color=INK, pad=10)
    add_legend(axes)
    save_figure(figure, path)


def _line(axes: Axes, rows: Sequence[Mapping[str, Any]], name: str, colour: str, alone: bool) -> None:
    groups: dict[float, list[float]] = {}
    for row in rows:
        groups.setdefault(row["depth"], []).append(100 * row["test/acc"])
    depths = sorted(groups)
    means = np.array([np.mean(groups[depth]) for depth in depths])
    spreads = np.array([np.std(groups[depth], ddof=1) if len(groups[depth]) > 1 else 0.0 for depth in depths])
    if spreads.any():
        band = axes.fill_between(depths, means - spreads, means + spreads, color=colour, alpha=0.14, linewidth=0)
        band.set_label("± 1 standard deviation" if alone else "_")
    sizes = sorted({len(values) for values in groups.values()})
    count = (
        "one run"
        if sizes == [1]
        else f"mean of {' to '.join(str(size) for size in sorted({*sizes[:1], *sizes[-1:]}))} runs"
    )
    label = f"{name} ({count})" if name else count
    axes.plot(depths, means, color=colour, linewidth=2.2, marker="o", markersize=6, label=label, zorder=3)
    if sizes[-1] > 1 and alone:
        points = [(depth, value) for depth in depths for value in groups[depth]]
        axes.scatter(*zip(*points, strict=True), s=18, color=INK, alpha=0.55, linewidths=0, label="a run", zorder=4)


def _depth_label(depth: float, stage_names: Sequence[str]) -> str:
    number = f"{depth:g}"
    if depth == 0:
        return f"{number}\nnothing"
    if depth == len(stage_names):
        return f"{number}\nall"
    return f"{number}\n{stage_names[int(depth) - 1]}" if depth < len(stage_names) else number
