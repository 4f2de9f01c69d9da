"""Reporting checklists, filled from the facts of a study; what only people know is left for them, never guessed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from orchestrator.common.errors import BadStudy
from orchestrator.common.names import hint
from orchestrator.results.report.checklists.item import NOT_APPLICABLE, Item
from orchestrator.results.report.checklists.lists import CHECKLISTS, Name
from orchestrator.results.report.facts import StudyFacts

State = Literal["filled", "filled in part", "does not apply", "for you to write"]
YOURS = "For you to write."
NO_QUAIDE = (
    "quaide: the texts of the 18 statements of QUAIDE (Gut 2025;74:153) are not public, so that no item of it can be "
    "filled; the nearest are claim and tripod"
)


@dataclass(frozen=True)
class Answer:
    """One item of a filled checklist: its number, wording, text and state."""

    number: str
    item: str
    text: str
    state: State


def checklist_name(given: str) -> Name:
    """Name of a checklist that can be filled. Raises `BadStudy` for others, with the reason if known."""
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
    if found.startswith(NOT_APPLICABLE):
        return Answer(item.number, item.text, found, "does not apply")
    if item.rest and not _is_all_stated(item, study):
        text = found if found.endswith(".") else f"{found}."
        return Answer(item.number, item.text, f"{text} {YOURS[:-1]}: {item.rest}.", "filled in part")
    return Answer(item.number, item.text, found, "filled")


def _is_all_stated(item: Item, study: StudyFacts) -> bool:
    """Whether people have stated for each dataset all that the item asks."""
    return bool(item.stated) and all(one.card.keys() >= {*item.stated} for one in study.datasets)


def counts(found: Sequence[Answer]) -> dict[str, int]:
    """Number of answers in each state, 0 included."""
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
