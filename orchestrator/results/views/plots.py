"""Pictures of a study, as PNG: outlines on cases, learning curves, Dice against the threshold."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from orchestrator.results.views.overlay import outlined
from orchestrator.results.views.palette import BLUE, GRAY, RED, fold_color
from orchestrator.scoring.histograms import NUM_BINS
from orchestrator.scoring.pending_cases import sweep
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.selection.comparison import Comparison

TILE = 2.3  # inches
MIN_SIDE = 300  # pixels
MAX_NAME = 28  # characters below a tile
MAX_NAMED = 12  # lines that a legend has room for


@dataclass(frozen=True)
class Tile:
    """One case of an overlay sheet."""

    name: str
    image: NDArray[np.uint8]  # RGB (H, W, 3)
    prediction: NDArray[np.bool_]  # (H, W)
    truth: NDArray[np.bool_]  # (H, W)
    dice: float  # 0 to 1


def overlay_sheet(tiles: Sequence[Tile], title: str, columns: int = 5) -> bytes:
    """A grid of cases, truth outlined in blue and prediction in yellow, with name and Dice below; a PNG."""
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    tallest = max(tile.image.shape[0] / tile.image.shape[1] for tile in tiles)
    figure = _figure(columns * TILE, rows * (TILE * tallest + 0.35) + 0.35)
    for place, tile in enumerate(tiles, start=1):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(_drawn(tile))
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(f"{_short(tile.name)}\nDice {tile.dice:.3f}", fontsize=7)
    figure.suptitle(f"{title}   (blue: truth, yellow: prediction)", fontsize=9)
    return _png(figure)


def learning_curves(folds: Mapping[str, Sequence[Mapping[str, float]]], title: str) -> bytes:
    """Losses and validation Dice of each fold over its epochs, the best epoch marked; a PNG.

    `folds`: label -> rows with epoch, train_loss and val_dice, and val_loss where it was computed.
    """
    figure = _figure(9, 3.6)
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    has_val_loss = any("val_loss" in row for rows in folds.values() for row in rows)
    for place, (label, rows) in enumerate(folds.items()):
        color = fold_color(place, len(folds))
        epochs = [row["epoch"] + 1 for row in rows]
        left.plot(epochs, [row["train_loss"] for row in rows], label=label, color=color)
        left.plot(epochs, [row.get("val_loss", math.nan) for row in rows], "--", color=color)
        right.plot(epochs, [row["val_dice"] for row in rows], color=color)
        best = max(rows, key=lambda row: row["val_dice"])
        right.plot(best["epoch"] + 1, best["val_dice"], "o", color=color, markersize=5)
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _label(left, "epoch", "loss of training, dashed of validation" if has_val_loss else "training loss")
    _label(right, "epoch", "validation Dice")
    right.set_ylim(0, 1)
    if len(folds) <= MAX_NAMED:  # below both, where it covers no curve
        lines, names = left.get_legend_handles_labels()
        figure.legend(lines, names, fontsize=8, loc="outside lower center", ncols=6)
    figure.suptitle(title, fontsize=10)
    return _png(figure)


def threshold_curve(
    histograms: NDArray[np.integer], fold_of_case: NDArray[np.integer], masks: PostProcess, title: str
) -> bytes:
    """Mean Dice against the threshold, over all images and for each fold, the chosen threshold marked; a PNG.

    histograms (N, 2, 256), fold_of_case (N,). The reference area acts at every threshold.
    """

    def mean_dice(histograms: NDArray[np.integer]) -> NDArray[np.float64]:
        return sweep(histograms, [masks.reference_area], white_level=masks.white_level)[:, 0]

    at = np.arange(1, NUM_BINS) / NUM_BINS
    figure = _figure(5.2, 3.6)
    axes = figure.add_subplot()
    folds = np.unique(fold_of_case)
    for place, fold in enumerate(folds):
        color = fold_color(place, len(folds))
        label = f"fold {fold}" if len(folds) <= MAX_NAMED else None
        of_fold = mean_dice(histograms[fold_of_case == fold])[1:]
        axes.plot(at, of_fold, linewidth=0.8, alpha=0.8, label=label, color=color)
    mean = mean_dice(histograms)
    axes.plot(at, mean[1:], color="black", linewidth=2, label="all images")
    threshold, chosen = masks.threshold, mean[round(masks.threshold * NUM_BINS)]
    axes.axvline(threshold, color=RED, linestyle="--", linewidth=1)
    axes.annotate(
        f"Dice {chosen:.3f} at {threshold:.3f}",
        (threshold, 0.03),
        xytext=(4, 0),
        textcoords="offset points",
        fontsize=8,
    )
    _label(axes, "threshold", "mean Dice")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.legend(fontsize=8, loc="best")
    figure.suptitle(title, fontsize=10)
    return _png(figure)


def interval_plot(lines: Mapping[str, tuple[float, tuple[float, float]]], title: str) -> bytes:
    """Plot of values with their 95 % intervals, one per line, in percentage points around zero; a PNG."""
    figure = _figure(7.0, 1.2 + 0.35 * len(lines))
    axes = figure.add_subplot()
    places = range(len(lines))
    for place, (value, (low, high)) in zip(places, lines.values(), strict=True):
        color = BLUE if low > 0 or high < 0 else GRAY
        if math.isfinite(low):
            axes.plot([100 * low, 100 * high], [place, place], color=color, linewidth=2)
        axes.plot([100 * value], [place], "o", color=color)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(list(places), list(lines), fontsize=8)
    axes.invert_yaxis()
    _label(axes, "points of a percent, with 95 % interval", "")
    figure.suptitle(title, fontsize=10)
    return _png(figure)


def _drawn(tile: Tile) -> NDArray[np.uint8]:
    """Tile with outlines; small images are enlarged first, so that outlines are as thin as on large ones."""
    height, width = tile.image.shape[:2]
    factor = max(1, math.ceil(MIN_SIDE / min(height, width)))
    size = (factor * width, factor * height)
    prediction, truth = (
        cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        for mask in (tile.prediction, tile.truth)
    )
    return outlined(np.asarray(cv2.resize(tile.image, size), np.uint8), prediction, truth)


def _figure(width: float, height: float) -> Figure:
    """New figure outside of pyplot, which would keep every figure of the process."""
    figure = Figure(figsize=(width, height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=8)


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"…{name[1 - MAX_NAME :]}"


def difference_plot(rows: Sequence[Comparison], metric: str) -> bytes:
    """Differences with their intervals, one line each, around zero; a PNG."""
    lines = {f"{row.other} on {row.where}": (row.difference, row.interval) for row in rows}
    return interval_plot(lines, f"difference in {metric} from {rows[0].reference}")
