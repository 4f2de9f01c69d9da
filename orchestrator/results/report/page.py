"""The report as one HTML page that needs no network."""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from orchestrator.results.report.champion_figures import champion_pictures
from orchestrator.results.report.facts import Gain, StudyFacts, TrialFacts
from orchestrator.results.report.paper_tables import Marked, notes
from orchestrator.results.report.paper_tables import rows as paper_rows
from orchestrator.results.report.prose import (
    cost_sentence,
    duration,
    flow,
    hours,
    images_for_one_point,
    methods,
    threshold_range,
)
from orchestrator.results.report.search_figures import search_pictures
from orchestrator.results.views.by_network import network_sentence
from orchestrator.results.views.score_lines import COLUMNS, ScoreLine, interval_text
from orchestrator.results.views.tables import secondary_text
from orchestrator.scoring.formatting import percent, points
from orchestrator.scoring.statistics import few_groups
from orchestrator.selection.comparison import Comparison, verdict

GENERATOR = "polyp-orchestrator report"  # in a meta tag: a page of ours may be replaced
MOST_ROWS = 60  # trials in the table; the leaderboard has all
NAMES = {"dice": "Dice", "iou": "IoU", "f2": "F2"}  # of scores, as people write them
Rows = list[list[str]]


@dataclass(frozen=True)
class Compared:
    """The comparison of the champions of several studies, the first being the reference; or why there is none."""

    rows: tuple[Comparison, ...] = ()
    missing: str = ""

    @property
    def marked(self) -> Marked:
        """(study, set of images) that differ significantly from the reference."""
        return frozenset(
            (row.other.rpartition(":")[0], name)
            for row in self.rows
            if row.is_sure
            for name in (
                row.where,
                f"{row.where} (unseen)",
                *(["cross-validation"] * (row.where == "validation")),
            )
        )


def report_page(studies: Sequence[StudyFacts], compared: Compared | None = None) -> str:
    """HTML of one or several studies."""
    environment = Environment(
        loader=PackageLoader("orchestrator.results.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    compared = compared or Compared()
    table = paper_rows(studies, compared.marked)
    return environment.get_template("report.html").render(
        title=f"Report: {', '.join(study.name for study in studies)}",
        generator=GENERATOR,
        written=time.strftime("%Y-%m-%d %H:%M"),
        comparison=_comparison(compared.rows) if compared.rows else None,
        comparison_lines=[verdict(row, "Dice") for row in compared.rows],
        no_comparison=compared.missing,
        paper=table if len(table) > 1 else None,
        paper_notes=notes(table),
        studies=[_sections(study) for study in studies],
    )


def _sections(study: StudyFacts) -> dict[str, Any]:
    return {
        "study": study,
        "numbers": _numbers(study),
        "asked": _asked(study),
        "data": _data(study),
        "data_notes": _data_notes(study),
        "flows": [
            (one.name, [(step, f"{count:,}".replace("-", "−")) for step, count in flow(one)])
            for one in study.datasets
        ],
        "splits": [
            ["", "training images", "validation images"],
            *([n, f"{a:,}", f"{b:,}"] for n, a, b in study.splits),
        ],
        "split_line": _split_line(study),
        "search_line": _search_line(study),
        "pictures": search_pictures(study),
        "networks": _by_network(study),
        "network_line": network_sentence(study.networks),
        "trials": _trials(study),
        "num_hidden": max(0, len(study.trials) - MOST_ROWS),
        "gains": _gains(study.gains),
        "again": _again(study),
        "cost": cost_sentence(study),
        "costs": _costs(study),
        "methods": methods(study),
        "software": ", ".join(f"{name} {version}" for name, version in study.versions.items())
        or "not recorded",
        **_champion(study),
    }


def _champion(study: StudyFacts) -> dict[str, Any]:
    champion = study.champion
    if champion is None:
        return {}
    trial = next(one for one in study.trials if one.number == champion.trial)
    low, high = threshold_range(champion.by_threshold.tolist())
    return {
        "params": [
            ["parameter", "value"],
            *([name, _value(value)] for name, value in champion.params.items()),
        ],
        "scores": _scores([*champion.scores, *champion.folds]),
        "score_notes": _score_notes(study),
        "champion_pictures": champion_pictures(champion, trial),
        "threshold_line": f"Mean Dice over validation images stays within one point of its best for every "
        "threshold from "
        f"{low:.2f} to {high:.2f}.",
        "strata": _strata(champion.strata),
        "presence": _presence(champion.found, champion.left_empty),
        "worst": [
            ["image", "Dice, %", "polyp, % of the frame"],
            *([one.case_id, percent(one.dice), f"{100 * one.polyp_share:.1f}"] for one in champion.worst),
        ],
        "tiles": [
            (one.case_id, percent(one.dice), base64.b64encode(content).decode())
            for one, content in champion.pictures
        ],
    }


def _numbers(study: StudyFacts) -> list[tuple[str, str]]:
    found = [("trials", f"{len(study.trials):,}"), ("finished fits of the search", f"{study.num_fits:,}")]
    if study.num_saved:
        found.append(("fits that the race left out or cut", f"{study.num_saved:,}"))
    found.append(("device hours", hours(study.device_hours)))
    if study.champion is not None:
        found += [
            (f"Dice in percent, {line.name}", percent(line.scores["dice"])) for line in study.champion.scores
        ]
    return found


def _asked(study: StudyFacts) -> Rows:
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


def _data(study: StudyFacts) -> Rows:
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


def _data_notes(study: StudyFacts) -> list[str]:
    layouts = [f"{one.name}: recognised as {one.layout}." for one in study.datasets if one.layout]
    remarks = [f"{one.name}: {remark}" for one in study.datasets for remark in one.remarks]
    stated = [f"{one.name}, {what}: {said}" for one in study.datasets for what, said in one.card.items()]
    return [*layouts, *remarks, *stated]


def _split_line(study: StudyFacts) -> str:
    near = (
        "Near-duplicate images (frames that show the same place) were not looked for."
        if study.num_near_duplicates is None
        else f"{study.num_near_duplicates:,} pairs of near-duplicate images (frames that show the same place) "
        "were found; "
        "none is on both sides of a split."
    )
    groups = (
        "Images of one group (patient, video) are never on both sides."
        if study.groups_known
        else "Patients and videos are not known for all images: images of one of them may be on both sides."
    )
    return (
        f"Split {study.split}, digest {study.split_digest}; {study.num_test:,} images held out for the test. "
        f"{groups} {near}"
    )


def _search_line(study: StudyFacts) -> str:
    states = [trial.state for trial in study.trials]
    if not states:
        return "No trial was begun yet."
    all_fits = sum(trial.num_folds for trial in study.trials)
    counts = {
        "complete": "with all folds",
        "stopped": "stopped by the race",
        "failed": "failed",
        "open": "not over",
    }
    counted = ", ".join(
        f"{states.count(state)} {words}" for state, words in counts.items() if state in states
    )
    saved = (
        "" if study.hours_saved is None else f", which saved about {duration(study.hours_saved)} of training"
    )
    return (
        f"{len(states)} trials: {counted}. A trial is one configuration, trained once on each fold (a fit). All "
        "folds of "
        f"all trials would have been {all_fits:,} fits; {study.num_fits:,} were trained to their end{saved}."
    )


def _by_network(study: StudyFacts) -> Rows:
    """A row for each network of a study over several; no rows else."""
    if not study.networks:
        return []
    head = ["network", "trial", "Dice, %", "95 %", "trials", "minutes", "against the best, points (95 %)"]
    rows = [
        [
            one.network,
            "–" if one.trial is None else str(one.trial),
            _percent(one.score),
            interval_text(one.interval),
            str(one.num_trials),
            f"{one.minutes:.1f}",
            one.verdict,
        ]
        for one in study.networks
    ]
    return [head, *rows]


def _trials(study: StudyFacts) -> Rows:
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
    goal = [] if study.is_mean else [_percent(trial.objective)]
    return [
        str(trial.number),
        *goal,
        shown,
        _percent(trial.cross_fitted),
        interval_text(trial.interval),
        "–" if trial.against is None else f"{points(trial.against[0])} (trial {trial.against[1]})",
        f"{len(trial.fits)}/{trial.num_folds}",
        trial.state,
        f"{trial.hours * 60:.1f}",
        *(secondary_text(name, trial.secondary.get(name)) for name in study.secondary),
        *(_value(trial.searched.get(name)) for name in searched),
    ]


def _scores(lines: Sequence[ScoreLine]) -> Rows:
    head = [
        "images of",
        "images",
        "groups",
        *(NAMES.get(name, name) for name in COLUMNS),
        "95 % of Dice",
        "images for ± 1 point",
    ]
    return [
        head,
        *(
            [
                line.name,
                f"{line.num_cases:,}",
                "–" if line.num_groups is None else f"{line.num_groups:,}",
                *(percent(line.scores.get(name, math.nan)) for name in COLUMNS),
                interval_text(line.interval),
                "–" if (count := images_for_one_point(line)) is None else f"{count:,}",
            ]
            for line in lines
        ),
    ]


def _score_notes(study: StudyFacts) -> list[str]:
    champion = study.champion
    if champion is None:
        return []
    lines = list(champion.scores[1:])
    found = [
        "Means over images, in percent. On an image without polyp, Dice is 100 if nothing is predicted, else 0. "
        + (
            "Cross-validation: each fold at the threshold that the other folds chose; rows of folds: all at the "
            "trial's "
            "one threshold, so that the first need not be the mean of these."
            if champion.is_cross_fitted and champion.folds
            else ""
        ),
        "The images of the folds chose among the trials, so the score of the one that was chosen is a little too good.",
    ]
    if lines:
        names = ", ".join(line.name for line in lines)
        found.append(f"Free of that: {names}. They are of one network: {champion.network}.")
    if champion.missing:
        found.append(champion.missing)
    groups = [line.num_groups for line in champion.scores if line.num_groups is not None]
    if groups and (few := few_groups(min(groups))):
        found.append(f"{few[0].upper()}{few[1:]}.")
    return found


def _strata(lines: Sequence[ScoreLine]) -> Rows | None:
    if not lines:
        return None
    head = ["validation images", "images", "Dice", "IoU", "precision", "recall", "95 % of Dice"]
    names = ("dice", "iou", "precision", "recall")
    return [
        head,
        *(
            [
                line.name,
                f"{line.num_cases:,}",
                *(percent(line.scores.get(name, math.nan)) for name in names),
                interval_text(line.interval),
            ]
            for line in lines
        ),
    ]


def _presence(found: tuple[int, int], left_empty: tuple[int, int]) -> list[str]:
    """Sensitivity and specificity of images, as sentences."""
    return [
        f"{name} {num:,} of {total:,} ({percent(num / total)} %)."
        if total
        else f"{name} none to count: there are no such validation images."
        for name, (num, total) in (
            ("Images with a polyp whose mask touches it (sensitivity per image):", found),
            ("Images without a polyp that were left empty (specificity per image):", left_empty),
        )
    ]


def _gains(gains: Sequence[Gain]) -> Rows | None:
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
                " to ".join(map(points, one.interval)) if math.isfinite(one.interval[0]) else "unknown",
                f"{one.p_images:.2g}",
                "–" if one.p_folds is None else f"{one.p_folds:.2g}",
                f"{one.p_value:.2g}",
            ]
            for one in gains
        ),
    ]


def _again(study: StudyFacts) -> Rows | None:
    if not study.reevaluated:
        return None
    head = ["finalist", "search, %", "re-evaluation, %", "both, %"]
    return [head, *([str(number), *map(percent, scores)] for number, *scores in study.reevaluated)]


def _costs(study: StudyFacts) -> Rows:
    head = ["fits", "device", "number", "hours", "device hours"]
    return [
        head,
        *([c.kind, c.device, f"{c.num_fits:,}", hours(c.hours), hours(c.device_hours)] for c in study.costs),
    ]


def _comparison(rows: Sequence[Comparison]) -> Rows:
    level = f"{100 * rows[0].confidence:.4g} %"
    head = [
        "images",
        "system",
        "reference",
        "n",
        "groups",
        "system, %",
        "reference, %",
        "difference, points",
        level,
    ]
    return [
        [*head, "p over images", "p over folds", "p, corrected", "P(false claim)"],
        *(
            [
                row.where,
                row.other,
                row.reference,
                f"{row.num_cases:,}",
                f"{row.num_groups:,}",
                percent(row.other_mean),
                percent(row.reference_mean),
                points(row.difference),
                " to ".join(map(points, row.interval)) if math.isfinite(row.interval[0]) else "unknown",
                f"{row.p_images:.2g}",
                "–" if row.p_folds is None else f"{row.p_folds:.2g}",
                f"{row.p_value:.2g}",
                "unknown" if row.p_false_claim is None else f"{row.p_false_claim:.2g}",
            ]
            for row in rows
        ),
    ]


def _percent(value: float | None) -> str:
    return "–" if value is None else percent(value)


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "–" if value is None else str(value)
