"""The report as one HTML page that needs no network."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from orchestrator.common.display import counted
from orchestrator.results.report.champion_tables import (
    comparison_table,
    presence_sentences,
    score_notes,
    score_table,
    stratum_table,
)
from orchestrator.results.report.facts import StudyFacts
from orchestrator.results.report.figures.champion import champion_pictures
from orchestrator.results.report.figures.search import search_pictures
from orchestrator.results.report.paper_tables import Marked, notes
from orchestrator.results.report.paper_tables import rows as paper_rows
from orchestrator.results.report.prose import cost_sentence, duration, flow, hours, methods, threshold_range
from orchestrator.results.report.study_tables import (
    MOST_ROWS,
    asked_table,
    by_network_table,
    cost_table,
    data_table,
    gain_table,
    reevaluation_table,
    trial_table,
    value_text,
)
from orchestrator.results.views.by_network import network_sentence
from orchestrator.scoring.formatting import percent
from orchestrator.selection.comparison import Comparison, verdict

GENERATOR = "polyp-orchestrator report"  # in a meta tag: a page of ours may be replaced


@dataclass(frozen=True)
class Compared:
    """The comparison of the champions of several studies, the first being the reference; or why there is none."""

    rows: tuple[Comparison, ...] = ()
    missing: str = ""

    @property
    def marked(self) -> Marked:
        """(study, set of images) of champions that differ significantly from the reference."""
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
        comparison=comparison_table(compared.rows) if compared.rows else None,
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
        "asked": asked_table(study),
        "data": data_table(study),
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
        "networks": by_network_table(study),
        "network_line": network_sentence(study.networks),
        "trials": trial_table(study),
        "num_hidden": max(0, len(study.trials) - MOST_ROWS),
        "gains": gain_table(study.gains),
        "again": reevaluation_table(study),
        "cost": cost_sentence(study),
        "costs": cost_table(study),
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
            *([name, value_text(value)] for name, value in champion.params.items()),
        ],
        "scores": score_table([*champion.scores, *champion.folds]),
        "score_notes": score_notes(study),
        "champion_pictures": champion_pictures(champion, trial),
        "threshold_line": f"Mean Dice over validation images stays within one point of its best for every "
        "threshold from "
        f"{low:.2f} to {high:.2f}.",
        "strata": stratum_table(champion.strata),
        "presence": [
            *presence_sentences(champion.found, champion.left_empty),
            *(f"{name}: {counts.sentence()}" for name, counts in champion.polyps.items()),
        ],
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
        return "No trial has begun yet."
    all_fits = sum(trial.num_folds for trial in study.trials)
    counts = {
        "complete": "with all folds",
        "stopped": "stopped by the race",
        "failed": "failed",
        "open": "not over",
    }
    by_state = ", ".join(
        f"{states.count(state)} {words}" for state, words in counts.items() if state in states
    )
    saved = (
        "" if study.hours_saved is None else f", which saved about {duration(study.hours_saved)} of training"
    )
    return (
        f"{counted(len(states), 'trial')}: {by_state}. A trial is one configuration, trained once on each fold (a "
        f"fit). All folds of all trials would have been {all_fits:,} fits; {study.num_fits:,} were trained to the "
        f"end{saved}."
    )
