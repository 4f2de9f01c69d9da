"""Figures of the champion: scores, threshold, calibration, learning curves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from orchestrator.results.report.facts import ChampionFacts, TrialFacts
from orchestrator.results.report.figures.style import SMALL, WIDTH, Picture, axes_of, label, picture
from orchestrator.results.views.palette import BLACK, BLUE, RED, fold_color
from orchestrator.results.views.score_lines import ScoreLine

NUM_BINS = 16  # of the reliability diagram


def champion_pictures(champion: ChampionFacts, trial: TrialFacts) -> list[Picture]:
    """All figures of the champion: scores, threshold, calibration, learning curves."""
    chosen = (
        "chosen on these images" if champion.is_swept else "a parameter of the trial, like its learning rate"
    )
    return [
        picture(
            "scores",
            "Mean Dice and its 95 % interval on every set of images; in brackets the number of images. Folds have no "
            "interval of their own.",
            scores_figure([*champion.scores, *champion.folds]),
        ),
        picture(
            "threshold",
            f"Mean Dice over all validation images at every threshold of the probability; dashed: {chosen}.",
            threshold_figure(champion),
        ),
        picture(
            "calibration",
            "Are probabilities shares? Of all pixels with a predicted probability, the share that is polyp; over the "
            "validation images of all folds. ECE: expected calibration error, the mean distance from the diagonal, "
            "weighted by pixels; most pixels are far from any polyp and easy.",
            calibration_figure(champion),
        ),
        picture(
            "learning_curves",
            "Training loss and validation Dice (each epoch at its best threshold) over epochs, a line for each fold; "
            "the dot is the epoch whose weights were kept.",
            learning(trial),
        ),
    ]


def scores_figure(lines: Sequence[ScoreLine]) -> Figure:
    """Dice with its interval on every set of images."""
    figure, axes = axes_of(0.7 + 0.28 * len(lines))
    for y, line in enumerate(lines):
        dice = 100 * line.scores.get("dice", math.nan)
        has_interval = line.interval is not None and all(map(math.isfinite, line.interval))
        if has_interval and line.interval is not None:
            axes.plot([100 * end for end in line.interval], [y, y], color=BLUE, lw=1.8)
        axes.plot(dice, y, "o", color=BLUE, mfc=BLUE if has_interval else "white", ms=5)
    axes.set_yticks(range(len(lines)), [f"{line.name} ({line.num_cases:,})" for line in lines])
    axes.invert_yaxis()
    label(axes, "Dice, percent", "")
    return figure


def threshold_figure(champion: ChampionFacts) -> Figure:
    """Mean Dice of the champion at every threshold."""
    figure, axes = axes_of(2.6)
    at = np.arange(256) / 256
    axes.plot(at[1:], 100 * champion.by_threshold[1:], color=BLUE)
    axes.axvline(champion.threshold, color=RED, ls="--", lw=1.2, label=f"threshold {champion.threshold:.3f}")
    label(axes, "threshold", "mean Dice, percent")
    axes.legend(fontsize=SMALL, loc="lower center", frameon=False)
    return figure


def reliability(champion: ChampionFacts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bins of probability with pixels, of `NUM_BINS`: middles, shares of polyp pixels, numbers of pixels."""
    outside, inside = (row.reshape(NUM_BINS, -1).sum(axis=1).astype(float) for row in champion.histograms)
    total = outside + inside
    middle, known = (np.arange(NUM_BINS) + 0.5) / NUM_BINS, total > 0
    return middle[known], inside[known] / total[known], total[known]


def calibration_error(champion: ChampionFacts) -> float:
    """Expected calibration error over pixels, 0 to 1."""
    middle, observed, total = reliability(champion)
    return float(np.sum(total * np.abs(observed - middle)) / total.sum())


def calibration_figure(champion: ChampionFacts) -> Figure:
    """Reliability diagram over pixels."""
    middle, observed, _ = reliability(champion)
    figure, axes = axes_of(2.9)
    axes.plot([0, 1], [0, 1], ":", color=BLACK, lw=1, label="perfect")
    name = f"champion, ECE {calibration_error(champion):.3f}"
    axes.plot(middle, observed, "o-", color=BLUE, ms=4, label=name)
    label(axes, "predicted probability of a pixel", "share of polyp pixels")
    axes.legend(fontsize=SMALL, frameon=False)
    return figure


def learning(trial: TrialFacts) -> Figure | str:
    """Training loss and validation Dice of each fold over epochs; a dot is the epoch that was kept."""
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    for fit in trial.fits:
        color, epochs = fold_color(fit.fold, trial.num_folds), range(1, len(fit.curve) + 1)
        name = f"fold {fit.fold}" if trial.num_folds <= 7 else None
        left.plot(epochs, [loss for loss, _ in fit.curve], color=color, lw=1.2, label=name)
        right.plot(epochs, [100 * dice for _, dice in fit.curve], color=color, lw=1.2)
        right.plot(fit.best_epoch, 100 * fit.curve[fit.best_epoch - 1][1], "o", color=color, ms=4)
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    label(left, "epoch", "training loss")
    label(right, "epoch", "validation Dice, percent")
    if trial.num_folds <= 7:
        figure.legend(
            fontsize=SMALL, loc="outside upper center", ncols=min(5, trial.num_folds), frameon=False
        )
    return figure
