"""Figures of a search: history, timeline of the race, importance, slices, parallel coordinates, folds, front."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from orchestrator.results.report.facts import StudyFacts, TrialFacts
from orchestrator.results.report.style import (
    BLACK,
    BLUE,
    ORANGE,
    RED,
    SMALL,
    WIDTH,
    Picture,
    axes_of,
    fold_color,
    is_number,
    is_wide,
    label,
    picture,
    positions,
    scaled,
)

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

# State -> color, mark, name.
STATES = {
    "complete": (BLUE, "o", "all folds"),
    "stopped": (ORANGE, "v", "stopped by the race"),
    "failed": (RED, "x", "failed"),
    "open": (BLACK, "s", "not over"),
}
MOST_AXES = 8  # parameters in one figure
FEWEST = 5  # complete trials, below which importance says nothing
MOST_BARS = 12  # trials in the figure of folds
NOTHING = "no fold of any trial is finished yet"


def search_pictures(study: StudyFacts) -> list[Picture]:
    """All of them, those that cannot be drawn with the reason."""
    return [
        picture(
            "history",
            f"{_goal(study)} of every trial, in the order of its start. A trial that was stopped stands at the mean "
            "over the folds that it finished, which are not the same images: it may be far off."
            + _unseen(study)
            if study.is_mean
            else f"{_goal(study)} of every trial with all its folds, in the order of its start.",
            history(study),
        ),
        picture(
            "race_timeline",
            "When every fit was trained. Colors are folds; a hatched bar is a fit that was cut before its last "
            "epoch; a "
            "triangle is the verdict that stopped a trial.",
            timeline(study),
        ),
        picture(
            "importance",
            "Share of the differences between trials that each parameter explains (fANOVA, Hutter et al. 2014), over "
            "trials with all their folds. Of few trials it is rough.",
            importance(study),
        ),
        picture(
            "slices",
            f"{_goal(study)} against each searched parameter. Circles: trials with all folds; triangles: "
            "stopped by the "
            f"race, on the folds that they finished.{_unseen(study)}",
            slices(study),
        ),
        picture(
            "parallel_coordinates",
            "A line for each trial, through its parameters to its score; the darker, the better. Gray and dotted: "
            f"stopped by the race, on the folds that it finished, so that it may seem better than it "
            f"is.{_unseen(study)}",
            parallel(study),
        ),
        picture(
            "folds",
            "The best trials, fold by fold (symbols), all at the trial's one threshold. Bar: 95 % interval of the mean "
            "over all images, at thresholds chosen on other folds.",
            fold_figure(study),
        ),
        *(
            [
                picture(
                    "front", "Trials by two objectives; the filled ones no trial beats in all.", front(study)
                )
            ]
            if study.secondary
            else []
        ),
    ]


def history(study: StudyFacts) -> Figure | str:
    """The score of every trial in the order of its start, and the best complete trial so far."""
    if not any(study.worth(trial) is not None for trial in study.trials):
        return NOTHING
    figure, axes = axes_of(2.9)
    for state in STATES:
        here = [trial for trial in study.trials if trial.state == state and study.worth(trial) is not None]
        _scatter(
            axes, state, [float(trial.number) for trial in here], [_percent(study, one) for one in here], 28
        )
    best, steps = -math.inf, []
    for trial in study.trials:
        best = max(best, trial.objective if trial.objective is not None else -math.inf)
        steps.append(100 * best if best > -math.inf else np.nan)
    numbers = [trial.number for trial in study.trials]
    axes.step(numbers, steps, where="post", color=BLUE, lw=1, label="best so far")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    label(axes, "trial", f"{_goal(study)}, percent")
    figure.legend(fontsize=SMALL, loc="outside upper center", ncols=3, frameon=False)
    return figure


def slices(study: StudyFacts) -> Figure | str:
    """The score against every searched parameter."""
    names = _searched(study)[:MOST_AXES]
    if not names:
        return "no parameter differs between trials"
    if not any(study.worth(trial) is not None for trial in study.trials):
        return NOTHING
    columns = min(2, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(WIDTH, 2.1 * rows), layout="constrained")
    for place, name in enumerate(names, start=1):
        axes = figure.add_subplot(rows, columns, place)
        _slice(axes, study, name)
        label(axes, name, f"{_goal(study)}, %" if place % columns == 1 or columns == 1 else "")
    return figure


def _slice(axes: Axes, study: StudyFacts, name: str) -> None:
    found = [trial for trial in study.trials if name in trial.searched and study.worth(trial) is not None]
    values = [trial.searched[name] for trial in found]
    places, ticks = positions(values)
    for state in STATES:
        here = [k for k, trial in enumerate(found) if trial.state == state]
        _scatter(axes, state, [places[k] for k in here], [_percent(study, found[k]) for k in here], 18)
    if ticks:
        axes.set_xticks(range(len(ticks)), [_short(tick) for tick in ticks])
        axes.set_xlim(-0.5, len(ticks) - 0.5)
    elif name in study.log_scaled:
        axes.set_xscale("log")
        low, high = min(places, default=1), max(places, default=1)
        if high / low < 30:  # too few powers of ten for the usual ticks
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.0e}" if low < 1e-2 else "{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    elif len(set(values)) <= 5 and all(isinstance(value, int) for value in values):
        axes.set_xticks(sorted({float(place) for place in places}))
        axes.xaxis.set_minor_locator(NullLocator())


def parallel(study: StudyFacts) -> Figure | str:
    """Every trial as a line through its parameters to its score; the darkest are the best."""
    names = _searched(study)[:MOST_AXES]
    trials = sorted(
        (one for one in study.trials if study.worth(one) is not None), key=lambda one: study.worth(one) or 0
    )
    if not names or len(trials) < 2:
        return (
            f"it takes two trials with a score and a parameter that differs; of such trials there is "
            f"{len(trials) or 'none'}"
        )
    figure, axes = axes_of(3.1)
    columns = [
        scaled([trial.searched.get(name) for trial in trials], is_log=name in study.log_scaled)
        for name in names
    ]
    worth = np.array([study.worth(trial) for trial in trials], dtype=float)
    shares = (worth - worth.min()) / (np.ptp(worth) or 1)
    for k, trial in enumerate(trials):
        line = [column[0][k] for column in columns] + [shares[k]]
        is_whole = trial.state == "complete"
        color = mpl.colormaps["cividis_r"](0.15 + 0.85 * shares[k]) if is_whole else "#888888"
        axes.plot(range(len(line)), line, "-" if is_whole else ":", color=color, lw=1.6 if is_whole else 1.1)
    ends = [*(column[1] for column in columns), (f"{100 * worth.min():.1f}", f"{100 * worth.max():.1f}")]
    for x, (low, high) in enumerate(ends):
        axes.text(x, -0.04, _short(low), ha="center", va="top", fontsize=SMALL)
        axes.text(x, 1.04, _short(high), ha="center", va="bottom", fontsize=SMALL)
        axes.axvline(x, ymin=0.13, ymax=0.87, color="#bbbbbb", lw=0.8, zorder=0)
    titles = [*names, f"{_goal(study)}, %"]
    for x, title in enumerate(titles):
        axes.text(
            x,
            1.17 + 0.12 * (x % 2 if len(titles) > 4 else 0),
            title,
            ha="center",
            fontsize=SMALL,
            weight="bold",
        )
    axes.set_ylim(-0.15, 1.35)
    axes.set_xlim(-0.4, len(titles) - 0.6)
    axes.set_axis_off()
    return figure


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
    for trial, fit, end in known:
        axes.barh(
            trial.number,
            fit.seconds / unit,
            left=(end - fit.seconds - start) / unit,
            height=0.7,
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


def _end(trial: TrialFacts, finished: float | None, stops: list[tuple[float, int]]) -> float | None:
    """When a fit ended; of one that was cut, when its trial was stopped, where that is all that is known."""
    if finished is not None:
        return finished
    return next((at for at, number in stops if number == trial.number), None)


def importance(study: StudyFacts) -> Figure | str:
    """Share of the variance of the score that each parameter explains."""
    found = importances(study)
    if not found:
        complete = sum(trial.objective is not None for trial in study.trials)
        return (
            f"it takes {FEWEST} trials with all their folds, and a parameter that differs between them; of such trials "
            f"this study has {complete}"
        )
    figure, axes = axes_of(0.7 + 0.3 * len(found))
    names = list(found)[::-1]
    axes.barh(names, [100 * found[name] for name in names], color=BLUE, height=0.6)
    axes.set_xlim(0, 100)
    label(axes, f"percent of the variance of {_goal(study)}", "")
    return figure


def importances(study: StudyFacts) -> dict[str, float]:
    """Parameter -> importance, largest first, over complete trials, of parameters that all of them have; empty where
    there are few trials."""
    import optuna

    trials = [one for one in study.trials if one.objective is not None]
    names = [name for name in _searched(study) if all(name in one.searched for one in trials)]
    names = [name for name in names if len({str(one.searched[name]) for one in trials}) > 1]
    if len(trials) < FEWEST or not names:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = optuna.create_study(direction="maximize")
    space = {
        name: _distribution([one.searched[name] for one in trials], is_log=name in study.log_scaled)
        for name in names
    }
    for one in trials:
        params = {name: _stored(one.searched[name], space[name]) for name in names}
        made.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=one.objective))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return dict(optuna.importance.get_param_importances(made, evaluator=evaluator))


def fold_figure(study: StudyFacts) -> Figure | str:
    """Dice of each fold of the best trials, with the interval of the whole."""
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


def front(study: StudyFacts) -> Figure | str:
    """Complete trials by the first two objectives."""
    name = study.secondary[0]
    found = [one for one in study.trials if one.objective is not None and name in one.secondary]
    if not found:
        return "no trial has all its folds yet"
    figure, axes = axes_of(2.9)
    for one in found:
        face = BLUE if one.on_front else "white"
        x, y = one.secondary[name], 100 * (one.objective or 0)
        axes.plot(x, y, "o", color=BLUE, mfc=face, ms=6)
        axes.annotate(str(one.number), (x, y), xytext=(5, 3), textcoords="offset points", fontsize=SMALL)
    if is_wide([one.secondary[name] for one in found]):
        axes.set_xscale("log")
    label(axes, name, f"{_goal(study)}, percent")
    return figure


def _scatter(axes: Axes, state: str, x: list[float], y: list[float], size: float) -> None:
    if x:
        color, marker, name = STATES[state]
        axes.scatter(x, y, c=color, marker=marker, s=size, label=name, zorder=3)


def _unseen(study: StudyFacts) -> str:
    """How many trials a figure lacks, for they have no finished fold."""
    count = sum(study.worth(trial) is None for trial in study.trials)
    return (
        f" Without a finished fold, and so not here: {count} of {len(study.trials)} trials." if count else ""
    )


def _goal(study: StudyFacts) -> str:
    return "Dice" if study.is_mean else study.objective


def _percent(study: StudyFacts, trial: TrialFacts) -> float:
    return 100 * (study.worth(trial) or 0.0)


def _searched(study: StudyFacts) -> list[str]:
    """Names of parameters, those first that take several values."""
    names = list(dict.fromkeys(name for trial in study.trials for name in trial.searched))
    return [
        name
        for name in names
        if len({str(trial.searched[name]) for trial in study.trials if name in trial.searched}) > 1
    ]


def _short(text: str, most: int = 14) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _distribution(values: list[object], *, is_log: bool) -> BaseDistribution:
    import optuna

    if all(map(is_number, values)):
        numbers = [float(value) for value in values]  # type: ignore[arg-type]
        return optuna.distributions.FloatDistribution(min(numbers), max(numbers), log=is_log)
    return optuna.distributions.CategoricalDistribution(sorted({str(value) for value in values}))


def _stored(value: object, distribution: object) -> object:
    return float(value) if hasattr(distribution, "low") else str(value)  # type: ignore[arg-type]
