"""The pictures a run keeps: learning curves and the confusion matrix."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, GREY, LINE = "#1f2933", "#6b7785", "#d9dee4"
_TRAIN, _VAL = "#8a97a6", "#1a6fb5"
_DPI = 150


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches."""
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
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


def save_figure(figure: Figure, path: Path) -> None:
    """Write the picture; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def learning_curves(history: Sequence[Mapping[str, float]], path: Path, best_epoch: int | None = None) -> None:
    """Draw loss and accuracy by epoch, training and validation, with the selected epoch marked.

    Args:
        history: one mapping an epoch: `epoch`, `train/loss`, `val/loss`, `train/acc`, `val/acc`; any may be missing.
        path: the PNG.
        best_epoch: the epoch whose weights were kept; by default the first with the highest `val/acc`.
    """
    figure = new_figure(9, 3.6)
    scored = [row for row in history if np.isfinite(row.get("val/acc", np.nan))]
    if best_epoch is None and scored:
        best_epoch = int(max(scored, key=lambda row: row["val/acc"])["epoch"])
    for axes, kind, title in zip(figure.subplots(1, 2), ("loss", "acc"), ("Loss", "Accuracy"), strict=True):
        plain_axes(axes)
        for split, name, colour in (("train", "training", _TRAIN), ("val", "validation", _VAL)):
            points = [(row["epoch"], row[f"{split}/{kind}"]) for row in history if f"{split}/{kind}" in row]
            if points:
                axes.plot(
                    *zip(*points, strict=True), color=colour, marker="o", markersize=3.5, linewidth=1.8, label=name
                )
        _mark_best(axes, history, best_epoch, kind)
        axes.set_title(title, loc="left", fontsize=11, color=INK)
        axes.set_xlabel("epoch", fontsize=9, color=GREY)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        add_legend(axes)
    save_figure(figure, path)


def _mark_best(axes: Axes, history: Sequence[Mapping[str, float]], best_epoch: int | None, kind: str) -> None:
    values = [row[f"val/{kind}"] for row in history if row["epoch"] == best_epoch and f"val/{kind}" in row]
    if best_epoch is None or not values:
        return
    axes.axvline(best_epoch, color=_VAL, linewidth=0.9, linestyle=(0, (4, 3)), alpha=0.6)
    label = f"kept: epoch {best_epoch}, {values[-1]:.3f}"
    axes.plot([best_epoch], [values[-1]], "o", markersize=8, markerfacecolor="none", color=_VAL, label=label)


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
    side = float(np.clip(2.6 + 0.42 * count, 4.6, 15))
    figure = new_figure(side + 1, side)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    size = float(np.clip(70 * side / count / 6, 4.5, 9))
    axes.set_xticks(range(count), classes, fontsize=size, color=INK, rotation=45 if count <= 20 else 90)
    for text in axes.get_xticklabels() if count <= 20 else ():
        text.set(horizontalalignment="right", rotation_mode="anchor")
    axes.set_yticks(range(count), classes, fontsize=size, color=INK)
    axes.tick_params(length=0)
    axes.spines[:].set_color(LINE)
    if count <= 20:
        _write_counts(axes, matrix, shares)
    accuracy = matrix.trace() / max(matrix.sum(), 1)
    title = f"{accuracy:.1%} of {matrix.sum():,} right"
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.set_xlabel("predicted", fontsize=10, color=GREY)
    axes.set_ylabel("true", fontsize=10, color=GREY)
    bar = figure.colorbar(image, ax=axes, fraction=0.045, pad=0.02, aspect=20 if count <= 20 else 45)
    bar.set_label("share of the true class", fontsize=9, color=GREY)
    bar.ax.tick_params(labelsize=8, colors=GREY, length=2)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    save_figure(figure, path)


def _write_counts(axes: Axes, matrix: np.ndarray, shares: np.ndarray) -> None:
    for (row, column), number in np.ndenumerate(matrix):
        if number:
            colour = "white" if shares[row, column] > 0.55 else INK
            axes.text(column, row, f"{number:,}", ha="center", va="center", fontsize=8, color=colour)
