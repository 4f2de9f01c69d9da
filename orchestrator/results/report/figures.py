"""Figures of a report as SVG: the Okabe-Ito palette, marks that also differ in form, text that scales with the page."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from orchestrator.results.report.facts import ChampionFacts, ScoreFacts, StudyFacts, TrialFacts

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

# Okabe and Ito: distinct for every common kind of colour blindness.
BLUE, ORANGE, GREEN, RED, SKY, PINK, YELLOW, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
    "#F0E442",
    "#222222",
)
FOLD_COLORS = (BLUE, ORANGE, GREEN, PINK, SKY, RED, YELLOW)
STATES = {"complete": (BLUE, "o"), "stopped": (ORANGE, "v"), "failed": (RED, "x"), "open": (BLACK, "s")}
WIDTH = 7.2  # inches; the page shows two side by side
MOST_AXES = 8  # parameters in one figure
FEWEST = 5  # complete trials, below which importance says nothing
SIZES = ((0.0, 0.0, "no polyp"), (0.0, 0.02, "up to 2 %"), (0.02, 0.1, "2 to 10 %"), (0.1, 1.0, "above 10 %"))


def svg(figure: Figure) -> str:
    """The figure as an <svg> element."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}):
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def history(study: StudyFacts) -> str:
    """Dice of every trial in the order of its start, and the best complete trial so far."""
    figure, axes = _axes(3.2)
    for state, (color, marker) in STATES.items():
        here = [trial for trial in study.trials if trial.state == state and trial.shown is not None]
        if here:
            label = {"complete": "all folds", "stopped": "stopped by the race"}.get(state, state)
            axes.scatter(
                [trial.number for trial in here],
                [trial.shown or 0.0 for trial in here],
                c=color,
                marker=marker,
                s=26,
                label=label,
                zorder=3,
            )
    best, steps = -math.inf, []
    for trial in study.trials:
        best = max(best, trial.dice if trial.dice is not None else -math.inf)
        steps.append(best if best > -math.inf else np.nan)
    axes.step(
        [trial.number for trial in study.trials], steps, where="post", color=BLUE, lw=1, label="best so far"
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _label(axes, "trial", "Dice over finished folds")
    axes.legend(fontsize=8, loc="lower right")
    return svg(figure)


def slices(study: StudyFacts) -> str | None:
    """Dice against every searched parameter; None where nothing was searched."""
    names = _searched(study)[:MOST_AXES]
    if not names:
        return None
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(WIDTH, 2.3 * rows), layout="constrained")
    for place, name in enumerate(names, start=1):
        axes = figure.add_subplot(rows, columns, place)
        found = [trial for trial in study.trials if name in trial.searched and trial.shown is not None]
        values = [trial.searched[name] for trial in found]
        positions, ticks = _positions(values)
        for state, (color, marker) in STATES.items():
            here = [k for k, trial in enumerate(found) if trial.state == state]
            axes.scatter(
                [positions[k] for k in here],
                [found[k].shown or 0.0 for k in here],
                c=color,
                marker=marker,
                s=16,
            )
        if ticks:
            axes.set_xticks(range(len(ticks)), ticks, fontsize=7)
        elif _is_log(values):
            axes.set_xscale("log")
        _label(axes, name, "Dice" if place % columns == 1 or columns == 1 else "")
    return svg(figure)


def parallel(study: StudyFacts) -> str | None:
    """Every trial as a line through its parameters to its Dice; the darkest are the best; None of fewer than two."""
    names = _searched(study)[:MOST_AXES]
    trials = sorted((one for one in study.trials if one.shown is not None), key=lambda one: one.shown or 0)
    if not names or len(trials) < 2:
        return None
    figure, axes = _axes(3.4)
    columns = [_scaled([trial.searched.get(name) for trial in trials]) for name in names]
    dice = np.array([trial.shown for trial in trials], dtype=float)
    shares = (dice - dice.min()) / (np.ptp(dice) or 1)
    for k, trial in enumerate(trials):
        line = [column[0][k] for column in columns] + [shares[k]]
        style = "-" if trial.state == "complete" else ":"
        axes.plot(range(len(line)), line, style, color=mpl.colormaps["cividis_r"](shares[k]), lw=1.2)
    axes.set_xticks(range(len(names) + 1), [*names, "Dice"], fontsize=8)
    axes.set_yticks([])
    for x, (low, high) in enumerate(
        [*(column[1] for column in columns), (f"{dice.min():.3f}", f"{dice.max():.3f}")]
    ):
        axes.text(x, -0.06, low, ha="center", va="top", fontsize=7)
        axes.text(x, 1.04, high, ha="center", va="bottom", fontsize=7)
        axes.axvline(x, color="#bbbbbb", lw=0.8, zorder=0)
    axes.set_ylim(-0.15, 1.15)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(length=0, pad=12)
    return svg(figure)


def timeline(study: StudyFacts) -> str:
    """When every fit was trained, by trial; colors are folds, and a triangle is the verdict that stopped a trial."""
    fits = [(trial, fit) for trial in study.trials for fit in trial.fits]
    if not fits:
        return ""
    start = min(fit.finished - fit.seconds for _, fit in fits)
    unit, name = (
        (3600.0, "hours") if max(fit.finished for _, fit in fits) - start > 7200 else (60.0, "minutes")
    )
    figure, axes = _axes(max(2.2, 0.16 * len(study.trials) + 1))
    for trial, fit in fits:
        left = (fit.finished - fit.seconds - start) / unit
        color = FOLD_COLORS[fit.fold % len(FOLD_COLORS)]
        axes.barh(trial.number, fit.seconds / unit, left=left, height=0.7, color=color, lw=0)
    stops = [(at, trial) for at, trial, action, _ in study.verdicts if action == "stop"]
    axes.scatter(
        [(at - start) / unit for at, _ in stops], [trial for _, trial in stops], c=BLACK, marker="<", s=14
    )
    axes.invert_yaxis()
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _label(axes, f"{name} of the study", "trial")
    return svg(figure)


def importance(study: StudyFacts) -> str | None:
    """Share of the variance of Dice that each parameter explains (fANOVA, Hutter et al. 2014); None of few trials."""
    found = importances(study)
    if not found:
        return None
    figure, axes = _axes(0.5 + 0.32 * len(found))
    names = list(found)[::-1]
    axes.barh(names, [found[name] for name in names], color=BLUE, height=0.6)
    _label(axes, "share of the variance of Dice over complete trials", "")
    return svg(figure)


def importances(study: StudyFacts) -> dict[str, float]:
    """Parameter -> importance, largest first, of complete trials that hold all of them; empty where there are few."""
    import optuna

    names = _searched(study)
    trials = [
        one for one in study.trials if one.dice is not None and all(name in one.searched for name in names)
    ]
    names = [name for name in names if len({str(one.searched[name]) for one in trials}) > 1]
    if len(trials) < FEWEST or not names:
        return {}
    made = optuna.create_study(direction="maximize")
    space = {name: _distribution([one.searched[name] for one in trials]) for name in names}
    for one in trials:
        params = {name: _stored(one.searched[name], space[name]) for name in names}
        made.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=one.dice))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return dict(optuna.importance.get_param_importances(made, evaluator=evaluator))


def fold_figure(study: StudyFacts, most: int = 12) -> str:
    """Dice of each fold of the best trials, with the interval of the whole."""
    trials = sorted((one for one in study.trials if one.dice is not None), key=lambda one: -(one.dice or 0))[
        :most
    ]
    figure, axes = _axes(3.0)
    for x, trial in enumerate(trials):
        for fit in trial.fits:
            axes.plot(x, fit.dice, "o", color=FOLD_COLORS[fit.fold % len(FOLD_COLORS)], ms=4, alpha=0.9)
        if (
            trial.interval is not None
            and trial.cross_fitted is not None
            and all(map(math.isfinite, trial.interval))
        ):
            low, high = trial.interval
            middle = trial.cross_fitted
            axes.errorbar(
                x + 0.25,
                middle,
                yerr=[[max(0, middle - low)], [max(0, high - middle)]],
                fmt="_",
                color=BLACK,
                lw=1,
            )
    axes.set_xticks(range(len(trials)), [str(trial.number) for trial in trials])
    _label(axes, "trial, best first; dots: folds, bar: 95 % interval of the cross-fitted mean", "Dice")
    return svg(figure)


def threshold_figure(champion: ChampionFacts) -> str:
    """Mean Dice of the champion at every threshold."""
    figure, axes = _axes(2.8)
    at = np.arange(256) / 256
    axes.plot(at[1:], champion.by_threshold[1:], color=BLUE)
    axes.axvline(champion.threshold, color=RED, ls="--", lw=1, label=f"chosen: {champion.threshold:.3f}")
    _label(axes, "threshold", "mean Dice")
    axes.legend(fontsize=8)
    return svg(figure)


def calibration(champion: ChampionFacts, bins: int = 16) -> tuple[str, float]:
    """Reliability diagram over pixels, and the expected calibration error (0 to 1)."""
    outside, inside = (row.reshape(bins, -1).sum(axis=1).astype(float) for row in champion.histograms)
    total = outside + inside
    middle = (np.arange(bins) + 0.5) / bins
    known = total > 0
    observed = np.divide(inside, total, out=np.zeros(bins), where=known)
    error = float(np.sum(total[known] * np.abs(observed[known] - middle[known])) / total.sum())
    figure, axes = _axes(3.0)
    axes.plot([0, 1], [0, 1], ":", color=BLACK, lw=1, label="perfect")
    axes.plot(middle[known], observed[known], "o-", color=BLUE, ms=4, label=f"champion, ECE {error:.3f}")
    _label(axes, "predicted probability of a pixel", "share of polyp pixels")
    axes.legend(fontsize=8)
    return svg(figure), error


def learning(study: StudyFacts, trial: TrialFacts) -> str:
    """Training loss and validation Dice of each fold over epochs; a dot is the epoch that was kept."""
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    for fit in trial.fits:
        color, epochs = FOLD_COLORS[fit.fold % len(FOLD_COLORS)], range(1, len(fit.curve) + 1)
        left.plot(epochs, [loss for loss, _ in fit.curve], color=color, lw=1.2, label=f"fold {fit.fold}")
        right.plot(epochs, [dice for _, dice in fit.curve], color=color, lw=1.2)
        right.plot(fit.best_epoch, fit.curve[fit.best_epoch - 1][1], "o", color=color, ms=4)
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _label(left, "epoch", "training loss")
    _label(right, "epoch", "validation Dice")
    left.legend(fontsize=7, ncols=2)
    return svg(figure)


def strata(champion: ChampionFacts) -> list[tuple[str, str, int, float]]:
    """(kind, stratum, cases, mean Dice) by polyp size, presence and center."""
    rows = []
    for low, high, name in SIZES:
        here = (
            champion.polyp_share == 0
            if high == 0
            else (champion.polyp_share > low) & (champion.polyp_share <= high)
        )
        if here.any():
            rows.append(
                ("polyp, share of the frame", name, int(here.sum()), float(champion.dice[here].mean()))
            )
    centers = np.array(champion.centers)
    for center in sorted({name for name in champion.centers if name}):
        here = centers == center
        rows.append(("center", center, int(here.sum()), float(champion.dice[here].mean())))
    return rows


def scores_figure(lines: Sequence[ScoreFacts]) -> str:
    """Dice with its interval on every set of images."""
    figure, axes = _axes(0.7 + 0.34 * len(lines))
    for y, line in enumerate(lines):
        dice = line.scores.get("dice", math.nan)
        if line.interval is not None and all(map(math.isfinite, line.interval)):
            low, high = line.interval
            axes.errorbar(
                dice, y, xerr=[[max(0, dice - low)], [max(0, high - dice)]], fmt="o", color=BLUE, ms=5
            )
        else:
            axes.plot(dice, y, "o", color=BLUE, mfc="white", ms=5)
    axes.set_yticks(range(len(lines)), [f"{line.name} ({line.num_cases})" for line in lines], fontsize=8)
    axes.invert_yaxis()
    _label(axes, "Dice, with its 95 % interval where groups allow one", "")
    return svg(figure)


def _axes(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot(1, 1, 1)


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25, lw=0.6)
    axes.set_axisbelow(True)


def _searched(study: StudyFacts) -> list[str]:
    return list(dict.fromkeys(name for trial in study.trials for name in trial.searched))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_log(values: Sequence[object]) -> bool:
    numbers = [float(value) for value in values if _is_number(value)]  # type: ignore[arg-type]
    return len(numbers) > 1 and min(numbers) > 0 and max(numbers) / min(numbers) > 20


def _positions(values: Sequence[object]) -> tuple[list[float], list[str]]:
    """Places on an axis, and its labels where the values are no numbers."""
    if all(map(_is_number, values)):
        return [float(value) for value in values], []  # type: ignore[arg-type]
    names = sorted({str(value) for value in values})
    return [float(names.index(str(value))) for value in values], names


def _scaled(values: Sequence[object]) -> tuple[NDArray[np.float64], tuple[str, str]]:
    """Values from 0 to 1, in logarithms where they span much, and what the ends are; missing ones are nan."""
    known = [value for value in values if value is not None]
    if not all(map(_is_number, known)):
        names = sorted({str(value) for value in known})
        places = [math.nan if value is None else names.index(str(value)) for value in values]
        return np.array(places) / max(1, len(names) - 1), (names[0], names[-1])
    numbers = np.array([math.nan if value is None else float(value) for value in values])  # type: ignore[arg-type]
    ends = f"{np.nanmin(numbers):.3g}", f"{np.nanmax(numbers):.3g}"
    numbers = np.log(numbers) if _is_log(known) else numbers
    spread = np.nanmax(numbers) - np.nanmin(numbers)
    return (numbers - np.nanmin(numbers)) / (spread or 1), ends


def _distribution(values: Sequence[object]) -> BaseDistribution:
    import optuna

    if all(map(_is_number, values)):
        numbers = [float(value) for value in values]  # type: ignore[arg-type]
        return optuna.distributions.FloatDistribution(min(numbers), max(numbers), log=_is_log(values))
    return optuna.distributions.CategoricalDistribution(sorted({str(value) for value in values}))


def _stored(value: object, distribution: object) -> object:
    return float(value) if hasattr(distribution, "low") else str(value)  # type: ignore[arg-type]
