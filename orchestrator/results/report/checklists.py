"""Reporting checklists, filled from the facts of a study; what only people know is left for them, never guessed.

CLAIM: Checklist for Artificial Intelligence in Medical Imaging, 2024 update (44 items). TRIPOD: the items of TRIPOD+AI
(2024) that concern model development and evaluation. MIDL: the reproducibility list of the MIDL and MICCAI conferences.
Items are in our words; the checklists' own texts are what a journal asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.results.report.facts import StudyFacts
from orchestrator.results.report.prose import energy, flow, images_for_one_point, interval_text, methods
from orchestrator.scoring.formatting import percent

Name = Literal["claim", "tripod", "midl"]
YOURS = "For you to write."
Fact = Callable[[StudyFacts], str | None]


@dataclass(frozen=True)
class Item:
    """One item of a checklist, and its fact; None where only people know it."""

    number: str
    text: str
    fact: Fact | None = None

    def answer(self, study: StudyFacts) -> str:
        found = self.fact(study) if self.fact is not None else None
        return found or YOURS


def filled(name: Name, study: StudyFacts) -> list[tuple[str, str, str]]:
    """(number, item, answer) of a checklist."""
    return [(item.number, item.text, item.answer(study)) for item in CHECKLISTS[name]]


def markdown(name: Name, study: StudyFacts) -> str:
    """The filled checklist as a Markdown table, and how much of it is filled."""
    rows = filled(name, study)
    count = sum(answer != YOURS for *_, answer in rows)
    lines = [f"# {name.upper()}: study {study.name}", "", f"{count} of {len(rows)} items are filled.", ""]
    lines += ["| # | item | answer |", "|---|---|---|"]
    lines += [f"| {number} | {text} | {answer.replace('|', '/')} |" for number, text, answer in rows]
    return "\n".join(lines) + "\n"


def _sources(study: StudyFacts) -> str:
    return "; ".join(
        f"{one.name} ({one.role}): {one.num_cases:,} images, content fingerprint {one.fingerprint}"
        for one in study.datasets
    )


def _excluded(study: StudyFacts) -> str:
    return "; ".join(flow(one) for one in study.datasets)


def _preprocessing(study: StudyFacts) -> str:
    return (
        "Images are resized to the network's square input and scaled to [0, 1]; masks are black and white, or read by "
        f"the rule given at import; augmentation as in the search space:\n{_fenced(study.space)}"
    )


def _fenced(text: str) -> str:
    return (
        "`"
        + " ".join(line.split("#")[0].strip() for line in text.splitlines() if line.split("#")[0].strip())
        + "`"
    )


def _missing(study: StudyFacts) -> str:
    skipped = sum(one.num_skipped for one in study.datasets)
    return (
        f"{skipped} files that could not be used were left out, and are listed by `orchestrator data show`."
    )


def _partitions(study: StudyFacts) -> str:
    folds = "; ".join(f"{name}: {train} training, {val} validation" for name, train, val in study.splits)
    return (
        f"Split {study.split} (digest {study.split_digest}): {folds}; hold-out test: {study.num_test} images."
    )


def _level(study: StudyFacts) -> str:
    level = "patient or video (group)" if study.groups_known else "image; groups are unknown"
    near = (
        "near-duplicate images were not looked for"
        if study.num_near_duplicates is None
        else f"{study.num_near_duplicates} pairs of near-duplicate images were found and kept together"
    )
    return f"Disjoint by {level}; {near}."


def _sample(study: StudyFacts) -> str | None:
    if study.champion is None:
        return None
    parts = [
        f"{line.name}: {line.num_cases} images, interval {interval_text(line.interval)}; about {count:,} for ± 1 point"
        for line in study.champion.scores
        if (count := images_for_one_point(line)) is not None
    ]
    return "No size was planned. " + "; ".join(parts) if parts else None


def _model(study: StudyFacts) -> str:
    size = study.metrics.get("parameters")
    return (
        f"{study.network}"
        + (f", {size:,.0f} learnable parameters" if size else "")
        + "; code: models/ of this program."
    )


def _software(study: StudyFacts) -> str:
    return ", ".join(f"{name} {version}" for name, version in study.versions.items())


def _initial(study: StudyFacts) -> str:
    return study.initial


def _training(study: StudyFacts) -> str:
    return (
        f"{methods(study)} Search space: {_fenced(study.space)}. Budget: "
        f"{', '.join(f'{key} {value}' for key, value in study.budget.items()) or 'none stated'}; seed {study.seed}."
    )


def _selection(study: StudyFacts) -> str | None:
    return " ".join(study.selection) or None


def _metrics(study: StudyFacts) -> str:
    return "Dice (primary), IoU, precision, recall, F2 and accuracy of each image, averaged over images."


def _statistics(study: StudyFacts) -> str:
    return (
        "95 % intervals over whole groups (studentized bootstrap and Student's t on the jackknife, the wider); paired "
        "tests over images (clustered signed ranks) and folds (Nadeau-Bengio), corrected for all trials (Holm)."
    )


def _internal(study: StudyFacts) -> str | None:
    return _lines(study, lambda name: "unseen" not in name)


def _external(study: StudyFacts) -> str | None:
    found = _lines(study, lambda name: "unseen" in name)
    return found or "Does not apply: no external dataset was given."


def _lines(study: StudyFacts, wanted: Callable[[str], bool]) -> str | None:
    if study.champion is None:
        return None
    return "; ".join(
        f"{line.name}: Dice {percent(line.scores['dice'])} ({interval_text(line.interval)}), n = {line.num_cases}"
        for line in study.champion.scores
        if wanted(line.name)
    )


def _all_scores(study: StudyFacts) -> str | None:
    return _lines(study, lambda name: True)


def _characteristics(study: StudyFacts) -> str:
    return (
        "; ".join(
            f"{one.name}: {one.num_cases} images, {_or_unknown(one.num_groups)} groups, "
            f"{one.num_centers or 'unknown'} centers, {one.num_empty} images without a polyp"
            for one in study.datasets
        )
        + ". Demographic data are for you to write."
    )


def _or_unknown(count: int | None) -> str:
    return "unknown" if count is None else str(count)


def _failures(study: StudyFacts) -> str | None:
    if study.champion is None:
        return None
    missed = int((study.champion.dice < 0.5).sum())
    worst = ", ".join(name for name, _ in study.champion.worst[:5])
    return (
        f"Dice below 50 on {missed} of {len(study.champion.dice)} validation images"
        + (f"; worst: {worst}" if worst else "")
        + "."
    )


def _limits(study: StudyFacts) -> str:
    remarks = "; ".join(study.remarks)
    return "Retrospective images; research use only, not a medical device." + (
        f" {remarks}." if remarks else ""
    )


def _available(study: StudyFacts) -> str:
    return (
        "Program: Apache-2.0. Commands: "
        + "; ".join(f"`{command}`" for command in study.commands)
        + ". Data: for you to write."
    )


def _hardware(study: StudyFacts) -> str:
    kwh, how = energy(study)
    devices = ", ".join(f"{name} ({count} fits)" for name, count in study.devices.items())
    return f"{devices}; {study.lanes}; {study.hours:.1f} device hours, about {kwh:.2f} kWh {how}."


def _seeds(study: StudyFacts) -> str:
    return f"Seed {study.seed}; every fold has a seed of its own, the same over all trials."


def _goal(study: StudyFacts) -> str:
    return (
        f"Segmentation of polyps in still colonoscopy images; development and evaluation of {study.network}."
    )


def _none(what: str) -> Fact:
    return lambda study: f"Does not apply: {what}."


CLAIM = (
    Item("1", "Title or abstract names the study as one of AI, and the kind of method"),
    Item("2", "Structured abstract"),
    Item("3", "Background, and the intended clinical use"),
    Item("4", "Aims and hypotheses"),
    Item("5", "Prospective or retrospective"),
    Item("6", "Goal of the study", _goal),
    Item("7", "Sources of data", _sources),
    Item("8", "Inclusion and exclusion", _excluded),
    Item("9", "Preprocessing", _preprocessing),
    Item("10", "Selection of subsets of data", _excluded),
    Item("11", "De-identification"),
    Item("12", "Missing data", _missing),
    Item("13", "Acquisition of images"),
    Item("14", "Definition of the reference standard"),
    Item("15", "Why this reference standard"),
    Item("16", "Who annotated"),
    Item("17", "Annotation of the test set"),
    Item("18", "Variability between and within raters"),
    Item("19", "Assignment of data to partitions", _partitions),
    Item("20", "Level at which partitions are disjoint", _level),
    Item("21", "Sample size", _sample),
    Item("22", "The model", _model),
    Item("23", "Software", _software),
    Item("24", "Initial weights", _initial),
    Item("25", "Training", _training),
    Item("26", "Choice of the final model", _selection),
    Item(
        "27",
        "Ensembling",
        _none("the champion is one network per fold; an exported ensemble says so in its card"),
    ),
    Item("28", "Metrics", _metrics),
    Item("29", "Significance and uncertainty", _statistics),
    Item(
        "30", "Robustness analysis", _none("none was made; `orchestrator evaluate` scores further datasets")
    ),
    Item("31", "Explainability", _none("no explanation of single predictions was made")),
    Item("32", "Evaluation on internal data", _internal),
    Item("33", "Evaluation on external data", _external),
    Item("34", "Registration of a clinical trial"),
    Item("35", "Cases included and excluded", _excluded),
    Item("36", "Characteristics of cases in each partition", _characteristics),
    Item("37", "Performance, with uncertainty", _all_scores),
    Item("38", "Diagnostic performance and its precision", _all_scores),
    Item("39", "Failure analysis", _failures),
    Item("40", "Limitations", _limits),
    Item("41", "Implications for practice"),
    Item("42", "Protocol"),
    Item("43", "Availability of software, model and data", _available),
    Item("44", "Funding"),
)
MIDL = (
    Item("1", "Model and algorithm described", _model),
    Item("2", "Complexity: parameters, operations", _model),
    Item("3", "Source of every dataset", _sources),
    Item("4", "Statistics of every dataset", _characteristics),
    Item("5", "Splits, and how they were made", _partitions),
    Item("6", "Exclusions and preprocessing", _excluded),
    Item("7", "New data: collection and annotation"),
    Item("8", "Ethics approval"),
    Item("9", "Range of hyperparameters considered, and how the best were chosen", _training),
    Item(
        "10",
        "Number of training and evaluation runs",
        lambda study: f"{study.num_fits} fits of {len(study.trials)} configurations.",
    ),
    Item("11", "Seeds", _seeds),
    Item("12", "Metrics defined", _metrics),
    Item("13", "Central tendency and variation", _all_scores),
    Item("14", "Statistical significance", _statistics),
    Item("15", "Baselines, and how they were tuned", _selection),
    Item("16", "Failure cases", _failures),
    Item("17", "Run time and energy", _hardware),
    Item("18", "Memory"),
    Item(
        "19", "Infrastructure: hardware and software", lambda study: f"{_hardware(study)} {_software(study)}"
    ),
    Item("20", "Code, weights and commands", _available),
    Item("21", "Clinical significance"),
)
TRIPOD = (
    Item("1", "Title"),
    Item("2", "Abstract"),
    Item("3", "Background and intended use"),
    Item("4", "Objectives", _goal),
    Item("5", "Sources and dates of data", _sources),
    Item("6", "Participants and settings"),
    Item("7", "Preparation of data", _preprocessing),
    Item("8", "Outcome and its assessment"),
    Item("9", "Predictors"),
    Item("10", "Sample size", _sample),
    Item("11", "Missing data", _missing),
    Item("12", "Analysis: partitions, model, tuning, calibration", _training),
    Item("13", "Class imbalance", _characteristics),
    Item(
        "14",
        "Fairness: subgroups",
        lambda study: "By center, polyp size and presence: see the report's table of strata.",
    ),
    Item(
        "15",
        "Output and thresholds",
        lambda study: (
            None
            if study.champion is None
            else f"Probability map; mask at {study.champion.threshold:.3f}, chosen on validation images."
        ),
    ),
    Item("16", "Training against evaluation data", _level),
    Item("17", "Ethical approval"),
    Item("18", "Open science: protocol, data, code", _available),
    Item("19", "Patient and public involvement"),
    Item("20", "Flow of participants", _excluded),
    Item("21", "Numbers in each analysis", _partitions),
    Item("22", "Full model", _available),
    Item("23", "Performance with intervals", _all_scores),
    Item("24", "Updating of the model", _none("no earlier model was updated")),
    Item("25", "Interpretation"),
    Item("26", "Limitations", _limits),
    Item("27", "Usability in care"),
)
CHECKLISTS: dict[str, Sequence[Item]] = {"claim": CLAIM, "tripod": TRIPOD, "midl": MIDL}
