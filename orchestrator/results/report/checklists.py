"""Reporting checklists, filled from the facts of a study; what only people know is left for them, never guessed.

CLAIM: Checklist for Artificial Intelligence in Medical Imaging, 2024 update (44 items). TRIPOD: the 27 items of
TRIPOD+AI (2024). MIDL: the reproducibility list of the MIDL and MICCAI conferences. Items are in our words; the
checklists' own texts are what a journal asks for. QUAIDE (2025) is left out: the texts of its items are not public.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from orchestrator.common.errors import BadStudy
from orchestrator.common.names import hint, require_entries
from orchestrator.results.report import answers
from orchestrator.results.report.facts import StudyFacts

Name = Literal["claim", "tripod", "midl"]
State = Literal["filled", "filled in part", "does not apply", "for you to write"]
YOURS = "For you to write."
NO_QUAIDE = (
    "quaide: the texts of the 18 statements of QUAIDE (Gut 2025;74:153) are not public, so that no item of it can be "
    "filled; the nearest are claim and tripod"
)


@dataclass(frozen=True)
class Item:
    """One item of a checklist: its fact, None where only people know it; and what people have to add to that."""

    number: str
    text: str
    fact: answers.Fact | None = None
    rest: str = ""


@dataclass(frozen=True)
class Answer:
    """What stands in the checklist."""

    number: str
    item: str
    text: str
    state: State


def checklist_name(given: str) -> Name:
    """The checklist of that name. Raises `BadStudy`, with the reason where it is one that cannot be filled."""
    if given in get_args(Name):
        return cast(Name, given)
    if given == "quaide":
        raise BadStudy("--checklist", NO_QUAIDE)
    raise BadStudy(
        "--checklist", f"{hint(given, get_args(Name))}expected {', '.join(get_args(Name))}, found {given}"
    )


def filled(name: Name, study: StudyFacts) -> list[Answer]:
    """The answers to a checklist, in its order."""
    return [_answer(item, study) for item in CHECKLISTS[name]]


def _answer(item: Item, study: StudyFacts) -> Answer:
    found = item.fact(study) if item.fact is not None else None
    if not found:
        return Answer(item.number, item.text, YOURS, "for you to write")
    if found.startswith(answers.NOT_APPLICABLE):
        return Answer(item.number, item.text, found, "does not apply")
    if item.rest:
        return Answer(item.number, item.text, f"{found} {YOURS[:-1]}: {item.rest}.", "filled in part")
    return Answer(item.number, item.text, found, "filled")


def counts(found: Sequence[Answer]) -> dict[str, int]:
    """How many answers are of each state, those of none included."""
    number = Counter(answer.state for answer in found)
    return {state: number[state] for state in get_args(State)}


def count_sentence(found: Sequence[Answer]) -> str:
    """ "Of 44 items 20 filled, 7 filled in part, 1 does not apply, 16 for you to write."."""
    return f"Of {len(found)} items {', '.join(f'{n} {state}' for state, n in counts(found).items())}."


def markdown(name: Name, study: StudyFacts) -> str:
    """The filled checklist as a Markdown table, and how much of it is filled."""
    found = filled(name, study)
    lines = [f"# {name.upper()}: study {study.name}", "", count_sentence(found), ""]
    lines += ["| # | item | state | answer |", "|---|---|---|---|"]
    lines += [f"| {a.number} | {a.item} | {a.state} | {_cell(a.text)} |" for a in found]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())


CLAIM = (
    Item("1", "Title or abstract names the study as one of AI, and the kind of method"),
    Item("2", "Structured abstract"),
    Item("3", "Background, and the intended clinical use"),
    Item("4", "Aims and hypotheses"),
    Item("5", "Prospective or retrospective"),
    Item("6", "Goal of the study", answers.goal),
    Item("7", "Sources of data", answers.sources, "licences, dates and places of what is not stated here"),
    Item(
        "8",
        "Inclusion and exclusion",
        answers.inclusion,
        "the rule of inclusion, where it is not stated here",
    ),
    Item("9", "Preprocessing", answers.preprocessing),
    Item("10", "Selection of subsets of data", answers.subsets),
    Item("11", "De-identification"),
    Item("12", "Missing data", answers.missing),
    Item("13", "Acquisition of images", answers.stated("devices", "dates"), "the protocol"),
    Item("14", "Definition of the reference standard"),
    Item("15", "Why this reference standard"),
    Item("16", "Who annotated", answers.stated("annotators")),
    Item("17", "Annotation of the test set"),
    Item("18", "Variability between and within raters"),
    Item("19", "Assignment of data to partitions", answers.partitions),
    Item("20", "Level at which partitions are disjoint", answers.level),
    Item("21", "Sample size", answers.sample, "whether a size was planned"),
    Item("22", "The model", answers.model),
    Item("23", "Software", answers.software),
    Item("24", "Initial weights", answers.initial),
    Item("25", "Training", answers.training),
    Item("26", "Choice of the final model", answers.selection),
    Item("27", "Ensembling", answers.ensemble),
    Item("28", "Metrics", answers.metrics),
    Item("29", "Significance and uncertainty", answers.statistics),
    Item("30", "Robustness or sensitivity", answers.sensitivity, "robustness to blur, light and compression"),
    Item("31", "Explainability"),
    Item("32", "Evaluation on internal data", answers.internal),
    Item("33", "Evaluation on external data", answers.external),
    Item("34", "Registration of a clinical trial"),
    Item("35", "Cases included and excluded", answers.excluded),
    Item(
        "36",
        "Characteristics of cases in each partition",
        answers.characteristics,
        "demographic and clinical data",
    ),
    Item("37", "Performance, with uncertainty", answers.spread),
    Item("38", "Diagnostic performance and its precision", answers.diagnostic),
    Item("39", "Failure analysis", answers.failures, "what these images have in common"),
    Item("40", "Limitations", answers.limits, "those that no record shows"),
    Item("41", "Implications for practice"),
    Item("42", "Protocol, technical information", answers.protocol),
    Item(
        "43", "Availability of software, model and data", answers.available, "where data and model can be had"
    ),
    Item("44", "Funding"),
)
MIDL = (
    Item("1", "Model and algorithm described", answers.model),
    Item("2", "Complexity: parameters, operations", answers.model),
    Item("3", "Source of every dataset", answers.sources),
    Item("4", "Statistics of every dataset", answers.characteristics),
    Item("5", "Splits, and how they were made", answers.partitions),
    Item("6", "Exclusions and preprocessing", answers.excluded),
    Item("7", "New data: collection and annotation"),
    Item("8", "Ethics approval"),
    Item("9", "Range of hyperparameters considered, and how the best were chosen", answers.training),
    Item("10", "Number of training and evaluation runs", answers.runs),
    Item("11", "Seeds", answers.seeds),
    Item("12", "Metrics defined", answers.metrics),
    Item("13", "Central tendency and variation", answers.spread),
    Item("14", "Statistical significance", answers.statistics),
    Item("15", "Baselines, and how they were tuned", answers.baseline),
    Item("16", "Failure cases", answers.failures),
    Item("17", "Run time and energy", answers.hardware),
    Item("18", "Memory"),
    Item("19", "Infrastructure: hardware and software", answers.machine),
    Item("20", "Code, weights and commands", answers.available),
    Item("21", "Clinical significance"),
)
TRIPOD = (
    Item("1", "Title"),
    Item("2", "Abstract"),
    Item("3", "Background and intended use"),
    Item("4", "Objectives", answers.goal),
    Item("5", "Sources and dates of data", answers.sources, "dates of what is not stated here"),
    Item("6", "Participants and settings", answers.stated("centers"), "participants"),
    Item("7", "Preparation of data", answers.preprocessing),
    Item("8", "Outcome and its assessment"),
    Item("9", "Predictors"),
    Item("10", "Sample size", answers.sample, "whether a size was planned"),
    Item("11", "Missing data", answers.missing),
    Item("12", "Analysis: partitions, model, tuning, calibration", answers.analysis),
    Item("13", "Class imbalance", answers.characteristics),
    Item("14", "Fairness: subgroups", answers.subgroups, "demographic subgroups"),
    Item("15", "Output and thresholds", answers.output),
    Item("16", "Training against evaluation data", answers.compared_sets),
    Item("17", "Ethical approval"),
    Item("18", "Open science: protocol, data, code", answers.available, "funding, conflicts, registration"),
    Item("19", "Patient and public involvement"),
    Item("20", "Flow of participants", answers.excluded, "participants behind the images"),
    Item("21", "Numbers in each analysis", answers.partitions),
    Item("22", "Full model", answers.full_model),
    Item("23", "Performance with intervals", answers.spread),
    Item("24", "Updating of the model"),
    Item("25", "Interpretation"),
    Item("26", "Limitations", answers.limits, "those that no record shows"),
    Item("27", "Usability in care"),
)
CHECKLISTS: dict[Name, Sequence[Item]] = {"claim": CLAIM, "tripod": TRIPOD, "midl": MIDL}
require_entries(CHECKLISTS, get_args(Name), "checklists")
