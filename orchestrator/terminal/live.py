"""A running study on the screen: a live table on a terminal, lines in a log file."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from rich.console import Console, Group, OverflowMethod
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from orchestrator.common.display import Display, counted
from orchestrator.scoring.formatting import duration, percent
from orchestrator.search.choices import SEARCH_METRIC
from orchestrator.terminal.printing import bar, err, note, out

if TYPE_CHECKING:
    from orchestrator.search.records.status import FoldView, Status, TrialView

# In a log file: seconds between two lines of progress, and seconds without any line after which there is one.
LOG_EVERY_S, LOG_SILENT_S = 300.0, 45.0
MARKS = {"done": "●", "running": "◐", "queued": "○", "cut": "×", "none": "·"}
MEANING = {"done": "done", "running": "in training", "queued": "next", "cut": "stopped", "none": "not yet"}
PLAIN_MARKS = {"done": "#", "running": ">", "queued": "o", "cut": "x", "none": "."}
CUT = ("state", "configuration")
COLORS = {
    "running": "cyan",
    "complete": "green",
    "waiting": "yellow",
    "stopped": "bright_black",
    "failed": "red",
    "open": "white",
}
OVER = ("ended", "interrupted", "failed", "killed")
WORDS = {
    "starting": "starting lanes",
    "timing": "timing a few steps, to choose the number of workers per fit",
    "searching": "searching",
    "finishing": "search budget used up; completing the folds of the best trials",
    "rescoring": "re-evaluating the finalists",
    "scoring": "scoring the champion on hold-out and external cases",
    "ended": "ended",
    "interrupted": "interrupted; the same command continues from here",
    "failed": "ended with an error; the same command continues from here",
    "killed": "killed, or its machine is gone; the same command continues from here",
}


@contextmanager
def study_view(
    every_s: float = LOG_EVERY_S, console: Console = out, silent_s: float = LOG_SILENT_S
) -> Iterator[tuple[Callable[[str], None], Callable[[Status], None]]]:
    """Functions that print a line, with the time since the start, and show a status.

    On a terminal the status is a live table below the lines; in a log file it is a line every `every_s` seconds, and
    after `silent_s` without any other line.
    """
    started = spoke = time.monotonic()

    def say(line: str) -> None:
        nonlocal spoke
        spoke = time.monotonic()
        seconds = int(time.monotonic() - started)
        console.print(f"[dim]{seconds // 60:02d}:{seconds % 60:02d}[/]  {escape(line)}", highlight=False)

    if not (console.is_terminal or _draws_in_notebook(console)):
        yield say, _now_and_then(say, every_s, lambda: time.monotonic() - spoke >= silent_s)
        return
    with Live(console=console, transient=True, auto_refresh=False) as live:
        yield say, lambda status: live.update(picture(status, console, console.height - 9), refresh=True)


def _draws_in_notebook(console: Console) -> bool:
    """Whether the console is a Jupyter notebook that can replace what was drawn: it needs ipywidgets."""
    return console.is_jupyter and find_spec("ipywidgets") is not None


def _now_and_then(
    say: Callable[[str], None], every_s: float, is_silent: Callable[[], bool]
) -> Callable[[Status], None]:
    last, crowded = time.monotonic(), False

    def show(status: Status) -> None:
        nonlocal last, crowded
        news = status.lanes.crowded and not crowded
        crowded = status.lanes.crowded
        if news or is_silent() or time.monotonic() - last >= every_s:
            last = time.monotonic()
            say(progress_line(status))

    return show


CONSOLE = Display(note, bar, study_view, lambda line: out.print(line, highlight=False))

# The same on stderr, where JSON on stdout is read by a program.
ASIDE = Display(note, bar, lambda: study_view(console=err), note)


def progress_line(status: Status) -> str:
    """The status of a study in one line."""
    count = Counter[str](trial.state for trial in status.trials)
    count.update({str(state): number for state, number in status.others.items()})
    trials = ", ".join(f"{count[state]} {state}" for state in COLORS if count[state])
    parts = [
        *([] if status.state in (*OVER, "searching") else [WORDS[status.state]]),
        f"{counted(status.num_trials, 'trial')} ({trials})" if trials else "no trial yet",
        *_counts(status),
    ]
    return "; ".join([*parts, _best(status), _left(status)])


def picture(status: Status, console: Console, rows: int | None = None) -> Group:
    """Table of the best trials (`rows` at most) with their folds; lanes, speed, the best trial and the time left."""
    shown = list(status.trials) if rows is None else _most_telling(status.trials, max(3, rows))
    has_unicode = console.encoding.lower().startswith("utf")
    marks = MARKS if has_unicode else PLAIN_MARKS
    too_long: OverflowMethod = "ellipsis" if has_unicode else "crop"
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    num_folds = max((len(trial.folds) for trial in shown), default=0)
    other = [] if status.objective == SEARCH_METRIC else [status.objective]
    for name in ("trial", *other, "dice", "folds", "state", "configuration"):
        side: Literal["left", "right"] = "right" if name in ("trial", "dice", *other) else "left"
        width = num_folds if name == "folds" else None
        # On a narrow terminal the words are cut, by their own cells, and never the numbers.
        table.add_column(name, justify=side, no_wrap=name not in CUT, min_width=width, overflow=too_long)
    for trial in shown:
        table.add_row(
            str(trial.number),
            *(_percent(trial.objective) for _ in other),
            _percent(trial.dice),
            _folds(trial, marks),
            Text(_doing(trial), style=COLORS[trial.state], overflow=too_long, no_wrap=True),
            Text(
                "  ".join(f"{name} {_short(value)}" for name, value in trial.params.items()),
                overflow=too_long,
                no_wrap=True,
                style="dim",
            ),
        )
    hidden = status.num_trials - len(shown)
    lines = [f"and {hidden} more"] if hidden else []
    lines += [_legend(shown, marks), _best(status), ", ".join(_counts(status)), _left(status)]
    return Group(
        Text(f"{status.study}: {WORDS[status.state]}  {duration(status.seconds)}", style="bold"),
        table,
        *(Text(line, overflow=too_long, no_wrap=True) for line in lines),
    )


def _legend(shown: Sequence[TrialView], marks: dict[str, str]) -> str:
    """Legend of the fold marks that occur in these trials: "folds: # done  > in training"."""
    seen = {mark for trial in shown for mark in _folds(trial, marks).plain}
    return "folds: " + "  ".join(f"{mark} {MEANING[state]}" for state, mark in marks.items() if mark in seen)


def _most_telling(trials: Sequence[TrialView], room: int) -> list[TrialView]:
    """The best trials and those in flight, by rank, `room` at most."""
    in_flight = [trial for trial in trials if trial.state == "running"][: room // 2]
    best = [trial for trial in trials if trial not in in_flight][: room - len(in_flight)]
    return [trial for trial in trials if trial in in_flight or trial in best]


def _folds(trial: TrialView, marks: dict[str, str]) -> Text:
    text = Text()
    for fold in trial.folds:
        over = trial.state in ("stopped", "failed") and fold.state == "none"
        state = "cut" if over else fold.state
        text.append(
            marks[state], style={"done": "green", "running": "cyan", "cut": "bright_black"}.get(state, "dim")
        )
    return text


def _doing(trial: TrialView) -> str:
    """State of a trial, with the partial score of one that lacks folds."""
    running = [_epochs(fold) for fold in trial.folds if fold.state == "running"]
    so_far = trial.partial if trial.state in ("waiting", "stopped") else None
    shown = [so_far.short()] if so_far is not None and so_far.folds_seen else []
    return " ".join([trial.state, *shown, *running[:2]])


def _epochs(fold: FoldView) -> str:
    val_dice = fold.val_dice
    return f"{fold.epoch}/{fold.epochs}" + ("" if val_dice is None else f" val {100 * val_dice:.1f}")


def _percent(value: float | None) -> str:
    return "" if value is None else percent(value)


def _best(status: Status) -> str:
    front = f"; Pareto front: {', '.join(map(str, status.front))}" if status.front else ""
    what = f"{status.objective} "
    if (named := status.champion) is not None:
        again = "" if named.fresh is None else f", {percent(named.fresh)} re-evaluated"
        return f"champion trial {named.number}: {what}{percent(named.dice)} in the search{again}{front}"
    if (best := status.best) is None:
        return "no finished fold yet"
    low_high = f" (95 % {percent(best.interval[0])} to {percent(best.interval[1])})" if best.interval else ""
    fair = "" if best.cross_fitted is None else f", cross-fitted {percent(best.cross_fitted)}"
    folds = counted(best.num_folds, "fold")
    return f"best trial {best.number}: {what}{percent(best.dice)} over {folds}{fair}{low_high}{front}"


def _counts(status: Status) -> list[str]:
    lanes = status.lanes
    unit = "GPU-hours" if status.gpus_per_lane else "lane-hours"
    parts = [
        f"{counted(status.fits_done, 'fit')}, {counted(status.epochs_done, 'epoch')}, {status.gpu_hours:.3g} {unit}"
    ]
    if lanes.crowded:
        parts.append(
            f"no lane could start: other jobs hold the resources of the cluster; {counted(lanes.queued, 'fit')} to do"
        )
    elif lanes.room:
        waiting = f", {counted(lanes.queued, 'fit')} waiting" if lanes.queued else ""
        parts.append(f"{lanes.busy} of {counted(lanes.up, 'lane')} busy{waiting}")
    if status.epochs_per_second:
        parts.append(f"{status.epochs_per_second:.3g} epochs/s")
    if status.images_per_second:
        parts.append(f"{status.images_per_second:.0f} images/s")
    return parts


def _left(status: Status) -> str:
    if status.state in OVER:
        return status.end or f"until {status.budget}"
    end = f"; {status.end}" if status.end else f"; until {status.budget}"
    if status.left.seconds is None:
        return f"time left unknown ({status.left.how}){end}"
    return f"about {duration(status.left.seconds)} left ({status.left.how}){end}"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
