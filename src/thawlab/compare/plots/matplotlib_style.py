"""What all pictures of a comparison share: a sheet with a title, labelled axes, a legend that covers nothing."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thawlab.tracking.plot_fonts import literal
from thawlab.tracking.plots import GREY, INK, new_figure, plain_axes


def sheet(title: str, width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of so many inches with a single plot."""
    figure = new_figure(width, height)
    axes = figure.subplots()
    plain_axes(axes)
    axes.set_title(literal(title), loc="left", fontsize=12, color=INK, pad=10)
    return figure, axes


def panels(title: str, count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of one plot, or of several, two side by side, each of so many inches."""
    columns = min(count, 2)
    rows = -(-count // 2)
    figure = new_figure(width * columns, height * rows + 0.4)
    found = [axes for line in figure.subplots(rows, columns, squeeze=False) for axes in line]
    for axes in found[count:]:
        axes.set_axis_off()
    figure.suptitle(literal(title), x=0.01, ha="left", fontsize=12, color=INK)
    return figure, found[:count]


def label_axes(axes: Axes, across: str, up: str) -> None:
    """What the axes show."""
    axes.set_xlabel(literal(across), fontsize=9.5, color=GREY)
    axes.set_ylabel(literal(up), fontsize=9.5, color=GREY)


def legend_below(figure: Figure, axes: Axes) -> None:
    """A legend below the plot, if there is anything to tell apart."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        columns = 1 if max(map(len, labels)) > 40 else 2 if max(map(len, labels)) > 24 else 3
        figure.legend(
            handles, labels, loc="outside lower left", ncols=columns, frameon=False, fontsize=8.5, labelcolor=INK
        )
