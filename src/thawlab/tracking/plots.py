"""The pictures a run keeps: learning curves and the confusion matrix."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont

from thawlab.system.printable import one_line
from thawlab.system.shortening import shortened
from thawlab.tracking.plot_fonts import lettering, literal

INK, GREY, LINE = "#1f2933", "#6b7785", "#d9dee4"
_TRAIN, _VAL = "#8a97a6", "#1a6fb5"
_DPI = 150
_LONGEST = 40  # signs of a class's name
_SPLITS = (("train", "training", _TRAIN), ("val", "validation", _VAL))

# Each of many heads has its pictures. To make and lay out a figure takes several times as long as to draw other data in
# it, so figures are kept, and one thread draws at a time.
_DRAWING = Lock()


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """A figure of so many inches."""
    figure = Figure(figsize=(width, height), dpi=_DPI, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)  # not pyplot: no global state, so it is safe in threads and leaks no figures
    return figure


def plain_axes(axes: Axes) -> None:
    """Two spines, a light grid of values."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.tick_params(colors=GREY, labelsize=9, length=3)
    axes.grid(axis="y", color=LINE, linewidth=0.7)
    axes.set_axisbelow(True)


def add_legend(axes: Axes) -> None:
    """A legend, if there is anything to tell apart."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(facecolor="white", edgecolor="none", framealpha=0.9, fontsize=9, labelcolor=INK)


def save_figure(figure: Figure, path: Path, title: str | None = None) -> None:
    """Write the picture as PNG; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas = _canvas(figure)
    about = {"Title": title} if title else None
    # Not savefig(), which draws all of it twice; and the usual compression takes twice as long for a tenth of the size.
    canvas.print_png(path, metadata=about, pil_kwargs={"compress_level": 3})


@lru_cache(maxsize=4)
def _empty_curves(measured: frozenset[str]) -> tuple[Figure, dict[str, Line2D]]:
    """A figure for what was measured, and its lines, which have no points yet."""
    # All places are fixed: to find them, matplotlib measures each text several times, which takes half of its time.
    figure = new_figure(9, 3.6, None)
    figure.subplots_adjust(left=0.055, right=0.99, top=0.92, bottom=0.13, wspace=0.14)
    lines = {}
    for axes, kind, title in zip(figure.subplots(1, 2), ("loss", "acc"), ("Loss", "Accuracy"), strict=True):
        plain_axes(axes)
        for split, name, colour in _SPLITS:
            if f"{split}/{kind}" in measured:
                (lines[f"{split}/{kind}"],) = axes.plot(
                    [], [], color=colour, marker="o", markersize=3.5, linewidth=1.8, label=name
                )
        axes.set_title(title, loc="left", y=1.0, fontsize=11, color=INK)
        axes.set_xlabel("epoch", fontsize=9, color=GREY)
        axes.xaxis.set_label_coords(0.5, -0.09)
        axes.yaxis.set_label_coords(-0.1, 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure, lines


def learning_curves(history: Sequence[Mapping[str, float]], path: Path, best_epoch: int | None = None) -> None:
    """Draw loss and accuracy by epoch, training and validation, with the selected epoch marked.

    Args:
        history: one mapping an epoch: `epoch`, `train/loss`, `val/loss`, `train/acc`, `val/acc`; any may be missing.
        path: the PNG.
        best_epoch: the epoch whose weights were kept; by default the first with the highest `val/acc`.
    """
    scored = [row for row in history if np.isfinite(row.get("val/acc", np.nan))]
    if best_epoch is None and scored:
        best_epoch = int(max(scored, key=lambda row: row["val/acc"])["epoch"])
    with _DRAWING:
        figure, lines = _empty_curves(frozenset(name for row in history for name in row))
        for name, line in lines.items():
            line.set_data(*zip(*((row["epoch"], row[name]) for row in history if name in row), strict=True))
        marks = []
        try:
            for axes, kind in zip(figure.axes, ("loss", "acc"), strict=True):
                marks += _mark_best(axes, history, best_epoch, kind)
                axes.relim()
                axes.autoscale_view()
                add_legend(axes)
            picture = _drawn(figure)
        finally:
            for mark in marks:  # the next history has others
                mark.remove()
    _write(picture, path)


def _mark_best(axes: Axes, history: Sequence[Mapping[str, float]], best_epoch: int | None, kind: str) -> list[Line2D]:
    values = [row[f"val/{kind}"] for row in history if row["epoch"] == best_epoch and f"val/{kind}" in row]
    if best_epoch is None or not values:
        return []
    label = f"kept: epoch {best_epoch}, {values[-1]:.3f}"
    line = axes.axvline(best_epoch, color=_VAL, linewidth=0.9, linestyle=(0, (4, 3)), alpha=0.6)
    ring = axes.plot([best_epoch], [values[-1]], "o", markersize=8, markerfacecolor="none", color=_VAL, label=label)
    return [line, *ring]


def confusion_matrix(
    labels: Sequence[int] | np.ndarray, predicted: Sequence[int] | np.ndarray, classes: Sequence[str], path: Path
) -> None:
    """Draw how often each class was taken for which: a row is a true class and sums to one.

    Up to 20 classes, each cell also shows its count.

    Args:
        labels: (N,) true class indices.
        predicted: (N,) predicted class indices.
        classes: C class names; 2 to about 100 can be read.
        path: the PNG.
    """
    count = len(classes)
    matrix = np.zeros((count, count), dtype=int)
    np.add.at(matrix, (np.asarray(labels, dtype=int), np.asarray(predicted, dtype=int)), 1)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    with _DRAWING, lettering(classes):
        empty, (left, top, right, bottom) = _empty_matrix(tuple(classes))
    picture = empty.copy()
    colours = Image.fromarray(colormaps["Blues"](shares, bytes=True)[..., :3])
    picture.paste(colours.resize((right - left, bottom - top), Image.Resampling.NEAREST), (left, top))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left, top, right - 1, bottom - 1), outline=LINE, width=2)
    title = f"{matrix.trace() / max(matrix.sum(), 1):.1%} of {matrix.sum():,} right"
    draw.text((left, top - 12), title, fill=INK, font=_font(11), anchor="ls")
    if count <= 20:
        for (row, column), number in np.ndenumerate(matrix):
            if number:
                place = (left + (column + 0.5) * (right - left) / count, top + (row + 0.5) * (bottom - top) / count)
                colour = "white" if shares[row, column] > 0.55 else INK
                draw.text(place, f"{number:,}", fill=colour, font=_font(8), anchor="mm")
    _write(picture, path)


@lru_cache(maxsize=4)
def _empty_matrix(classes: tuple[str, ...]) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """The picture without its cells and its title, and where the cells belong: left, top, right and bottom in pixels.

    Matplotlib takes ten times as long for the numbers in the cells as Pillow.
    """
    count = len(classes)
    side = float(np.clip(2.6 + 0.42 * count, 4.6, 15))
    names = [literal(name) for name in shortened([one_line(each) for each in classes], _LONGEST)]
    figure = new_figure(side + 1, side)
    axes = figure.subplots()
    axes.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5), aspect="equal")
    size = float(np.clip(70 * side / count / 6, 4.5, 9))
    axes.set_xticks(range(count), names, fontsize=size, color=INK, rotation=45 if count <= 20 else 90)
    for text in axes.get_xticklabels() if count <= 20 else ():
        text.set(horizontalalignment="right", rotation_mode="anchor")
    axes.set_yticks(range(count), names, fontsize=size, color=INK)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(" ", loc="left", fontsize=11)  # room for it
    axes.set_xlabel("predicted", fontsize=10, color=GREY)
    axes.set_ylabel("true", fontsize=10, color=GREY)
    shades = ScalarMappable(cmap="Blues")
    shades.set_clim(0, 1)
    bar = figure.colorbar(shades, ax=axes, fraction=0.045, pad=0.02, aspect=20 if count <= 20 else 45)
    bar.set_label("share of the true class", fontsize=9, color=GREY)
    bar.ax.tick_params(labelsize=8, colors=GREY, length=2)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    picture = _drawn(figure)
    box = axes.get_window_extent()  # from below
    left, top, right, bottom = box.x0, picture.height - box.y1, box.x1, picture.height - box.y0
    return picture, (round(left), round(top), round(right), round(bottom))


@lru_cache
def _font(points: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(findfont(FontProperties()), points * _DPI / 72)


def _drawn(figure: Figure) -> Image.Image:
    canvas = _canvas(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _canvas(figure: Figure) -> FigureCanvasAgg:
    canvas = figure.canvas
    return canvas if isinstance(canvas, FigureCanvasAgg) else FigureCanvasAgg(figure)


def _write(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A higher level takes twice as long for files that are a fifth smaller.
    picture.save(path, compress_level=1, dpi=(_DPI, _DPI))
