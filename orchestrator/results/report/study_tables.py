"""Tables of the page on one study, as text: the first row is the head."""

from __future__ import annotations

import math
from collections.abc import Sequence

from orchestrator.results.report.facts import Gain, Interval, StudyFacts, TrialFacts
from orchestrator.results.report.prose import hours
from orchestrator.results.views.score_lines import interval_text
from orchestrator.results.views.tables import secondary_text
from orchestrator.scoring.formatting import percent, points

MOST_ROWS = 60  # trials in the table; the leaderboard has all
Rows = list[list[str]]


def asked_table(study: StudyFacts) -> Rows:
    """Settings of the study as question and answer; rows without an answer are left out."""
    budget = ", ".join(f"{value:,} {key.replace('_', ' ')}" for key, value in study.budget.items())  # type: ignore[str-bytes-safe]
    rows = [
        ["question", "answer"],
        ["network", study.network],
        ["what trials are ranked by", f"{study.objective}, over validation images"],
        ["further objectives", ", ".join(study.secondary)],
        ["limits of the champion", ", ".join(study.constraints)],
        ["rule of the race (which trial is given another fold)", study.race],
        ["what proposes configurations", study.sampler],
        ["budget", budget or "not limited by a number"],
        ["seed", str(study.seed)],
        ["state", study.state],
    ]
    return [row for row in rows if row[1]]


def data_table(study: StudyFacts) -> Rows:
    """A row for each dataset."""
    head = [
        "dataset",
        "part",
        "images",
        "without polyp",
        "groups",
        "centers",
        "median size",
        "content fingerprint",
    ]
    return [
        head,
        *(
            [
                one.name,
                "searched on" if one.role == "searched on" else "tested on",
                f"{one.num_cases:,}",
                f"{one.num_empty:,}",
                "unknown" if one.num_groups is None else f"{one.num_groups:,}",
                f"{one.num_centers}" if one.num_centers else "unknown",
                f"{one.frame[1]}\N{NO-BREAK SPACE}x\N{NO-BREAK SPACE}{one.frame[0]}",
                one.fingerprint[:12],
            ]
            for one in study.datasets
        ),
    ]


def by_network_table(study: StudyFacts) -> Rows:
    """A row for each network of a study over several; no rows else."""
    if not study.networks:
        return []
    head = ["network", "trial", "Dice, %", "95 %", "trials", "minutes", "against the best, points (95 %)"]
    rows = [
        [
            one.network,
            "–" if one.trial is None else str(one.trial),
            percent(one.score),
            interval_text(one.interval),
            str(one.num_trials),
            f"{one.minutes:.1f}",
            one.verdict,
        ]
        for one in study.networks
    ]
    return [head, *rows]


def trial_table(study: StudyFacts) -> Rows:
    """A row for each trial, the best first, `MOST_ROWS` at most; a Dice over some folds alone is in brackets."""
    searched = list(dict.fromkeys(name for trial in study.trials for name in trial.searched))
    goal = [] if study.is_mean else [f"{study.objective}, %"]
    head = [
        "trial",
        *goal,
        "Dice, %",
        "cross-fitted Dice, %",
        "95 %",
        "against the incumbent, points",
        "folds",
        "state",
        "minutes",
        *study.secondary,
        *searched,
    ]
    ordered = sorted(
        study.trials, key=lambda one: (one.objective is None, -(one.objective or study.worth(one) or 0))
    )
    return [head, *(_trial(study, one, searched) for one in ordered[:MOST_ROWS])]


def _trial(study: StudyFacts, trial: TrialFacts, searched: Sequence[str]) -> list[str]:
    shown = (
        percent(trial.dice) if trial.dice is not None else f"({percent(trial.seen)})" if trial.seen else "–"
    )
    goal = [] if study.is_mean else [percent(trial.objective)]
    return [
        str(trial.number),
        *goal,
        shown,
        percent(trial.cross_fitted),
        interval_text(trial.interval),
        "–" if trial.against is None else f"{points(trial.against[0])} (trial {trial.against[1]})",
        f"{len(trial.fits)}/{trial.num_folds}",
        trial.state,
        f"{trial.hours * 60:.1f}",
        *(secondary_text(name, trial.secondary.get(name)) for name in study.secondary),
        *(value_text(trial.searched.get(name)) for name in searched),
    ]


def gain_table(gains: Sequence[Gain]) -> Rows | None:
    """The winner against other trials; None where it was compared with none."""
    if not gains:
        return None
    head = ["trial", "", "winner's lead, points", "95 %", "p over images", "p over folds", "p, corrected"]
    return [
        head,
        *(
            [
                str(one.other),
                one.what,
                points(one.difference),
                points_text(one.interval),
                f"{one.p_images:.2g}",
                "–" if one.p_folds is None else f"{one.p_folds:.2g}",
                f"{one.p_value:.2g}",
            ]
            for one in gains
        ),
    ]


def reevaluation_table(study: StudyFacts) -> Rows | None:
    """The finalists' scores of both trainings; None without a re-evaluation."""
    if not study.reevaluated:
        return None
    head = ["finalist", "search, %", "re-evaluation, %", "both, %"]
    return [head, *([str(number), *map(percent, scores)] for number, *scores in study.reevaluated)]


def cost_table(study: StudyFacts) -> Rows:
    """A row for each kind of fits on each device."""
    head = ["fits", "device", "number", "hours", "device hours"]
    return [
        head,
        *([c.kind, c.device, f"{c.num_fits:,}", hours(c.hours), hours(c.device_hours)] for c in study.costs),
    ]


def value_text(value: object) -> str:
    """A parameter's value, numbers to four digits; a dash for None."""
    return f"{value:.4g}" if isinstance(value, float) else "–" if value is None else str(value)


def points_text(interval: Interval) -> str:
    """(0.01, 0.03) -> "+1.00 to +3.00"; "unknown" where it is not finite."""
    return " to ".join(map(points, interval)) if math.isfinite(interval[0]) else "unknown"
