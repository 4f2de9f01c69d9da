"""Figures of trials, a mark or a line for each: history, slices, parallel coordinates, front."""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from orchestrator.results.report.facts import StudyFacts, TrialFacts
from orchestrator.results.report.figures.style import (
    NOTHING,
    SMALL,
    WIDTH,
    axes_of,
    is_wide,
    label,
    positions,
    scaled,
)
from orchestrator.results.views.palette import BLACK, BLUE, ORANGE, RED

# State -> color, mark, name.
STATES = {
    "complete": (BLUE, "o", "all folds"),
    "stopped": (ORANGE, "v", "stopped by the race"),
    "failed": (RED, "x", "failed"),
    "open": (BLACK, "s", "not over"),
}
MOST_AXES = 8  # parameters in one figure


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
    label(axes, "trial", f"{study.goal}, percent")
    figure.legend(fontsize=SMALL, loc="outside upper center", ncols=3, frameon=False)
    return figure


def slices(study: StudyFacts) -> Figure | str:
    """The score against every searched parameter."""
    names = study.varied[:MOST_AXES]
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
        label(axes, name, f"{study.goal}, %" if place % columns == 1 or columns == 1 else "")
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
    names = study.varied[:MOST_AXES]
    trials = sorted(
        (one for one in study.trials if study.worth(one) is not None), key=lambda one: study.worth(one) or 0
    )
    if not names or len(trials) < 2:
        return (
            "this needs two trials with a score and a parameter that differs; the number of such trials is "
            f"{len(trials)}"
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
    titles = [*names, f"{study.goal}, %"]
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


def front(study: StudyFacts) -> Figure | str:
    """Complete trials as points by the first two objectives, those on the front filled."""
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
    label(axes, name, f"{study.goal}, percent")
    return figure


def _scatter(axes: Axes, state: str, x: list[float], y: list[float], size: float) -> None:
    if x:
        color, marker, name = STATES[state]
        axes.scatter(x, y, c=color, marker=marker, s=size, label=name, zorder=3)


def _percent(study: StudyFacts, trial: TrialFacts) -> float:
    return 100 * (study.worth(trial) or 0.0)


def _short(text: str, most: int = 14) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
