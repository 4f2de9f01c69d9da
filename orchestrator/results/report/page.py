"""The report as one HTML page that needs no network."""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from orchestrator.results.report import figures
from orchestrator.results.report.facts import ScoreFacts, StudyFacts, TrialFacts
from orchestrator.results.report.prose import energy, flow, images_for_one_point, interval_text, methods
from orchestrator.scoring.formatting import percent

SHOWN = ("dice", "iou", "precision", "recall", "f2", "accuracy")
Rows = list[list[str]]


def report_page(
    studies: Sequence[StudyFacts], comparison: Rows | None = None, comparison_lines: Sequence[str] = ()
) -> str:
    """HTML of one or several studies. `comparison`: a heading and a row for each pair of systems."""
    environment = Environment(
        loader=PackageLoader("orchestrator.results.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    title = f"Report: {', '.join(study.name for study in studies)}"
    return environment.get_template("report.html").render(
        title=title,
        written=f"Written on {time.strftime('%Y-%m-%d %H:%M')}",
        comparison=comparison,
        comparison_lines=list(comparison_lines),
        studies=[_sections(study) for study in studies],
    )


def _sections(study: StudyFacts) -> dict[str, Any]:
    return {
        "study": study,
        "numbers": _numbers(study),
        "asked": _asked(study),
        "data": _data(study),
        "flows": [flow(one) for one in study.datasets],
        "splits": [
            ["fold", "training cases", "validation cases"],
            *([n, str(a), str(b)] for n, a, b in study.splits),
        ],
        "search_line": _search_line(study),
        "history": figures.history(study),
        "timeline": figures.timeline(study),
        "importance": figures.importance(study),
        "slices": figures.slices(study),
        "parallel": figures.parallel(study),
        "folds": figures.fold_figure(study),
        "trials": _trials(study),
        "cost": _cost(study),
        "methods": methods(study),
        "software": ", ".join(f"{name} {version}" for name, version in study.versions.items()),
        **_champion(study),
    }


def _champion(study: StudyFacts) -> dict[str, Any]:
    champion = study.champion
    if champion is None:
        return {}
    trial = next(one for one in study.trials if one.number == champion.trial)
    diagram, _ = figures.calibration(champion)
    return {
        "scores": _scores([*champion.scores, *champion.folds]),
        "score_figure": figures.scores_figure([*champion.scores, *champion.folds]),
        "threshold": figures.threshold_figure(champion),
        "calibration": diagram,
        "learning": figures.learning(study, trial) if trial.fits else None,
        "strata": [
            ["kind", "stratum", "images", "mean Dice"],
            *(
                [kind, name, str(count), percent(dice)]
                for kind, name, count, dice in figures.strata(champion)
            ),
        ],
        "worst": [(name, base64.b64encode(data).decode()) for name, data in champion.worst],
    }


def _numbers(study: StudyFacts) -> list[tuple[str, str]]:
    found = [("trials", str(len(study.trials))), ("fits", str(study.num_fits))]
    if study.num_saved:
        found.append(("fits saved by racing", str(study.num_saved)))
    found.append(("device hours", f"{study.hours:.2f}"))
    if study.champion is not None:
        found += [(f"Dice, {line.name}", percent(line.scores["dice"])) for line in study.champion.scores]
    return found


def _asked(study: StudyFacts) -> Rows:
    budget = ", ".join(f"{key} {value}" for key, value in study.budget.items()) or "not recorded"
    return [
        ["", ""],
        ["network", study.network],
        ["objective", study.objective],
        ["racing", study.race],
        ["sampler", study.sampler],
        ["budget", budget],
        ["seed", str(study.seed)],
        ["state", study.state],
    ]


def _data(study: StudyFacts) -> Rows:
    head = ["dataset", "role", "images", "without polyp", "groups", "centers", "dropped", "fingerprint"]
    return [
        head,
        *(
            [
                one.name,
                one.role,
                f"{one.num_cases:,}",
                str(one.num_empty),
                "unknown" if one.num_groups is None else str(one.num_groups),
                str(one.num_centers or "unknown"),
                str(one.num_dropped),
                one.fingerprint[:12],
            ]
            for one in study.datasets
        ),
    ]


def _search_line(study: StudyFacts) -> str:
    states = [trial.state for trial in study.trials]
    all_fits = sum(trial.num_folds for trial in study.trials)
    return (
        f"{states.count('complete')} trials have all their folds, {states.count('stopped')} were stopped, "
        f"{states.count('failed')} failed. Racing trained {study.num_fits} of the {all_fits} fits that all folds of "
        "all trials would have been."
    )


def _trials(study: StudyFacts) -> Rows:
    searched = list(dict.fromkeys(name for trial in study.trials for name in trial.searched))
    head = ["trial", "Dice", "95 % interval", "folds", "state", "minutes", *searched]
    ordered = sorted(study.trials, key=lambda one: (one.dice is None, -(one.shown or 0)))
    return [head, *(_trial(one, searched) for one in ordered)]


def _trial(trial: TrialFacts, searched: Sequence[str]) -> list[str]:
    shown = (
        percent(trial.dice) if trial.dice is not None else f"({percent(trial.seen)})" if trial.seen else "–"
    )
    return [
        str(trial.number),
        shown,
        interval_text(trial.interval),
        f"{len(trial.fits)}/{trial.num_folds}",
        trial.state,
        f"{trial.hours * 60:.1f}",
        *(_value(trial.searched.get(name)) for name in searched),
    ]


def _scores(lines: Sequence[ScoreFacts]) -> Rows:
    head = ["images of", "n", *SHOWN, "95 % of Dice", "images for ± 1 point"]
    return [
        head,
        *(
            [
                line.name,
                str(line.num_cases),
                *(percent(line.scores.get(name, math.nan)) for name in SHOWN),
                interval_text(line.interval),
                "–" if (count := images_for_one_point(line)) is None else f"{count:,}",
            ]
            for line in lines
        ),
    ]


def _cost(study: StudyFacts) -> str:
    kwh, how = energy(study)
    devices = ", ".join(f"{name} ({count} fits)" for name, count in study.devices.items())
    return f"{study.hours:.2f} hours of training and validation on {devices}; {study.lanes}. About {kwh:.2f} kWh {how}."


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "–" if value is None else str(value)
