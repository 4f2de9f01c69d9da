"""One item of a reporting checklist, and what answers it.

An answer is made of facts alone: what a study does not record is left to people, and "Does not apply" is said only
where the study's own options say so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.results.report.facts import StudyFacts

Fact = Callable[[StudyFacts], str | None]
NOT_APPLICABLE = "Does not apply: "


@dataclass(frozen=True)
class Item:
    """One item of a checklist: its fact, None where only people know it; and what people have to add to that.

    `stated`: what the fact holds if it is stated for a dataset; once each dataset has it, nothing is to be added.
    """

    number: str
    text: str
    fact: Fact | None = None
    rest: str = ""
    stated: tuple[str, ...] = ()
