"""Figures of fits: when each was trained, and the Dice of each fold of the best trials."""

from __future__ import annotations

import math

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from orchestrator.results.report.facts import StudyFacts, TrialFacts
from orchestrator.results.report.figures.style import NOTHING, SMALL, axes_of, label
from orchestrator.results.views.palette import BLACK, fold_color

MOST_BARS = 12  # trials in the figure of folds
HEIGHT = 0.7  # of a trial's bars in the timeline
SLACK_S = 1.0  # by which fits of one lane may seem to overlap


def timeline(study: StudyFacts) -> Figure | str:
    """When every fit was trained, by trial."""
    fits = [(trial, fit) for trial in study.trials for fit in (*trial.fits, *trial.cut)]
    stops = [(at, trial) for at, trial, action, _ in study.verdicts if action == "stop" and at]
    ends = [_end(trial, fit.finished, stops) for trial, fit in fits]
    known = [(trial, fit, end) for (trial, fit), end in zip(fits, ends, strict=True) if end is not None]
    if not known:
        return NOTHING
    start = min(end - fit.seconds for _, fit, end in known)
    is_long = max(end for *_, end in known) - start > 7200
    unit, name = (3600.0, "hours") if is_long else (60.0, "minutes")
    figure, axes = axes_of(min(6.0, max(2.2, 0.09 * len(study.trials) + 1.4)))
    num_folds = max(trial.num_folds for trial in study.trials)
    rows = rows_of([(trial.number, end - fit.seconds, end) for trial, fit, end in known])
    for (trial, fit, end), (row, num_rows) in zip(known, rows, strict=True):
        height = HEIGHT / num_rows
        axes.barh(
            trial.number - HEIGHT / 2 + (row + 0.5) * height,
            fit.seconds / unit,
            left=(end - fit.seconds - start) / unit,
            height=height,
            color=fold_color(fit.fold, num_folds),
            hatch="////" if fit.is_cut else None,
            edgecolor="white",
            lw=0.4,
        )
    axes.scatter(
        [(at - start) / unit for at, _ in stops],
        [one for _, one in stops],
        c=BLACK,
        marker="<",
        s=22,
        zorder=3,
    )
    axes.invert_yaxis()
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    label(axes, f"{name} since the first fit began", "trial")
    folds = [
        Patch(color=fold_color(fold, num_folds), label=f"fold {fold}") for fold in range(min(num_folds, 7))
    ]
    stop = Line2D([], [], color=BLACK, marker="<", ls="", ms=5, label="stopped")
    figure.legend(
        handles=[*folds, *([stop] if stops else [])],
        fontsize=SMALL,
        loc="outside upper center",
        ncols=4,
        frameon=False,
    )
    return figure


def rows_of(spans: list[tuple[int, float, float]]) -> list[tuple[int, int]]:
    """Row of each bar (trial, start, end) within its trial, and how many rows the trial has: fits that were trained at
    the same time, in several lanes, are drawn one below the other."""
    ends: dict[int, list[float]] = {}  # trial -> end of the last bar in each row
    rows = [0] * len(spans)
    for place in sorted(range(len(spans)), key=lambda one: spans[one][1]):
        number, start, end = spans[place]
        taken = ends.setdefault(number, [])
        free = [row for row, last in enumerate(taken) if last <= start + SLACK_S]
        rows[place] = free[0] if free else len(taken)
        taken[rows[place] :] = [end, *taken[rows[place] + 1 :]]
    return [(row, len(ends[number])) for row, (number, *_) in zip(rows, spans, strict=True)]


def _end(trial: TrialFacts, finished: float | None, stops: list[tuple[float, int]]) -> float | None:
    """Time when a fit ended; of one that was cut, that of its trial's stop if no other is known."""
    if finished is not None:
        return finished
    return next((at for at, number in stops if number == trial.number), None)


def fold_figure(study: StudyFacts) -> Figure | str:
    """Dice of each fold of the best trials, with the interval of each trial."""
    trials = sorted(
        (one for one in study.trials if one.dice is not None), key=lambda one: -(one.objective or 0)
    )
    if not trials:
        return "no trial has all its folds yet"
    trials = trials[:MOST_BARS]
    figure, axes = axes_of(2.9)
    num_folds = max(trial.num_folds for trial in trials)
    for x, trial in enumerate(trials):
        for fit in trial.fits:
            name = f"fold {fit.fold}" if x == 0 and num_folds <= 7 else None
            axes.plot(
                x,
                100 * (fit.dice or 0),
                "os^Dv<>"[fit.fold % 7],
                color=fold_color(fit.fold, num_folds),
                ms=5,
                ls="",
                label=name,
            )
        if (
            trial.interval is not None
            and trial.cross_fitted is not None
            and all(map(math.isfinite, trial.interval))
        ):
            low, high = (100 * end for end in trial.interval)
            axes.plot([x + 0.28] * 2, [low, high], color=BLACK, lw=1.2)
            axes.plot(x + 0.28, 100 * trial.cross_fitted, "_", color=BLACK, ms=8)
    axes.set_xticks(range(len(trials)), [str(trial.number) for trial in trials])
    axes.set_xlim(-0.6, len(trials) - 0.2)
    label(axes, "trial, the best first", "Dice, percent")
    if num_folds <= 7 and len(trials[0].fits) > 1:
        figure.legend(fontsize=SMALL, loc="outside upper center", ncols=min(5, num_folds), frameon=False)
    return figure
