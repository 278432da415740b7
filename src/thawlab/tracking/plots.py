"""The pictures a run and a sweep keep: learning curves, the confusion matrix, accuracy against freeze depth."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_INK, _GREY, _LINE = "#1f2933", "#6b7785", "#d9dee4"
_TRAIN, _VAL = "#8a97a6", "#1a6fb5"
_DPI = 150


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)  # not pyplot: no global state, so it is safe in threads and leaks no figures
    return figure


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_LINE)
    axes.tick_params(colors=_GREY, labelsize=9, length=3)
    axes.grid(axis="y", color=_LINE, linewidth=0.7)
    axes.set_axisbelow(True)


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[1]:
        axes.legend(facecolor="white", edgecolor="none", framealpha=0.9, fontsize=9, labelcolor=_INK)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def learning_curves(history: Sequence[Mapping[str, float]], path: Path, best_epoch: int | None = None) -> None:
    """Draw loss and accuracy by epoch, training and validation, with the selected epoch marked.

    Args:
        history: one mapping an epoch: `epoch`, `train/loss`, `val/loss`, `train/acc`, `val/acc`; any may be missing.
        path: the PNG.
        best_epoch: the epoch whose weights were kept; by default the first with the highest `val/acc`.
    """
    figure = _figure(9, 3.6)
    scored = [row for row in history if np.isfinite(row.get("val/acc", np.nan))]
    if best_epoch is None and scored:
        best_epoch = int(max(scored, key=lambda row: row["val/acc"])["epoch"])
    for axes, kind, title in zip(figure.subplots(1, 2), ("loss", "acc"), ("Loss", "Accuracy"), strict=True):
        _style(axes)
        for split, name, colour in (("train", "training", _TRAIN), ("val", "validation", _VAL)):
            points = [(row["epoch"], row[f"{split}/{kind}"]) for row in history if f"{split}/{kind}" in row]
            if points:
                axes.plot(
                    *zip(*points, strict=True), color=colour, marker="o", markersize=3.5, linewidth=1.8, label=name
                )
        _mark_best(axes, history, best_epoch, kind)
        axes.set_title(title, loc="left", fontsize=11, color=_INK)
        axes.set_xlabel("epoch", fontsize=9, color=_GREY)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _legend(axes)
    _save(figure, path)


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
    figure = _figure(side + 1, side)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    size = float(np.clip(70 * side / count / 6, 4.5, 9))
    axes.set_xticks(range(count), classes, fontsize=size, color=_INK, rotation=45 if count <= 20 else 90)
    for text in axes.get_xticklabels() if count <= 20 else ():
        text.set(horizontalalignment="right", rotation_mode="anchor")
    axes.set_yticks(range(count), classes, fontsize=size, color=_INK)
    axes.tick_params(length=0)
    axes.spines[:].set_color(_LINE)
    if count <= 20:
        _write_counts(axes, matrix, shares)
    accuracy = matrix.trace() / max(matrix.sum(), 1)
    title = f"{accuracy:.1%} of {matrix.sum():,} right"
    axes.set_title(title, loc="left", fontsize=11, color=_INK)
    axes.set_xlabel("predicted", fontsize=10, color=_GREY)
    axes.set_ylabel("true", fontsize=10, color=_GREY)
    bar = figure.colorbar(image, ax=axes, fraction=0.045, pad=0.02, aspect=20 if count <= 20 else 45)
    bar.set_label("share of the true class", fontsize=9, color=_GREY)
    bar.ax.tick_params(labelsize=8, colors=_GREY, length=2)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    _save(figure, path)


def _write_counts(axes: Axes, matrix: np.ndarray, shares: np.ndarray) -> None:
    for (row, column), number in np.ndenumerate(matrix):
        if number:
            colour = "white" if shares[row, column] > 0.55 else _INK
            axes.text(column, row, f"{number:,}", ha="center", va="center", fontsize=8, color=colour)


def freeze_curve(
    rows: Sequence[Mapping[str, float]], path: Path, stage_names: Sequence[str] = (), title: str = ""
) -> None:
    """Draw test accuracy against freeze depth: a point a run, their mean, and one standard deviation either side.

    Args:
        rows: one mapping a run with `freeze_depth` and `test/acc` (a share); a run without one is left out.
        path: the PNG.
        stage_names: the names of stages 1…K, to be written below the depths.
        title: what was trained on what.
    """
    groups: dict[float, list[float]] = {}
    for row in rows:
        if np.isfinite(row.get("test/acc", np.nan)):
            groups.setdefault(row["freeze_depth"], []).append(100 * row["test/acc"])
    depths = sorted(groups)
    means = np.array([np.mean(groups[depth]) for depth in depths])
    spreads = np.array([np.std(groups[depth], ddof=1) if len(groups[depth]) > 1 else 0.0 for depth in depths])
    figure = _figure(max(7.2, 0.72 * len(depths)), 4.2)
    axes = figure.subplots()
    _style(axes)
    if spreads.any():
        band = axes.fill_between(depths, means - spreads, means + spreads, color=_VAL, alpha=0.14, linewidth=0)
        band.set_label("± 1 standard deviation")
    sizes = sorted({len(values) for values in groups.values()}) or [0]
    label = (
        "one run"
        if sizes == [1]
        else f"mean of {' to '.join(str(size) for size in sorted({sizes[0], sizes[-1]}))} runs"
    )
    axes.plot(depths, means, color=_VAL, linewidth=2.2, marker="o", markersize=6, label=label, zorder=3)
    if sizes[-1] > 1:
        points = [(depth, value) for depth in depths for value in groups[depth]]
        axes.scatter(*zip(*points, strict=True), s=18, color=_INK, alpha=0.55, linewidths=0, label="a run", zorder=4)
    axes.set_xticks(depths, [_depth_label(depth, stage_names) for depth in depths])
    axes.set_xlabel("freeze depth: frozen up to and including this stage", fontsize=9.5, color=_GREY)
    axes.set_ylabel("test accuracy (%)", fontsize=9.5, color=_GREY)
    axes.set_title(title or "Test accuracy by freeze depth", loc="left", fontsize=12, color=_INK, pad=10)
    _legend(axes)
    _save(figure, path)


def _depth_label(depth: float, stage_names: Sequence[str]) -> str:
    number = f"{depth:g}"
    if depth == 0:
        return f"{number}\nnothing"
    if depth == len(stage_names):
        return f"{number}\nall"
    return f"{number}\n{stage_names[int(depth) - 1]}" if depth < len(stage_names) else number
