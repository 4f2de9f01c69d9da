"""Reading of `race.jsonl`, one verdict a line: damaged lines are left out, and counted."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from orchestrator.common.stored_json import Unreadable, parse
from orchestrator.search.choices import Action


class _VerdictLine(BaseModel):
    """One verdict."""

    trial: int
    folds: list[int]
    action: Action
    reason: str
    against: int | None
    numbers: dict[str, Any]


def read_verdicts(log: Path) -> list[dict[str, Any]]:
    """Every verdict so far, oldest first, without damaged lines, such as a last one that a kill truncated."""
    return [json.loads(line) for line in split_verdicts(log)[0]]


def parse_verdicts(lines: Iterable[str]) -> list[dict[str, Any]]:
    """The verdicts of these lines of the file; lines that do not read are left out."""
    return [json.loads(line) for line in lines if _is_verdict(line)]


def split_verdicts(log: Path) -> tuple[list[str], list[str]]:
    """The whole lines of the file: those that are verdicts, and those that were damaged."""
    good: list[str] = []
    bad: list[str] = []
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else [""]
    for line in lines if "\0" in lines[-1] else lines[:-1]:
        (good if _is_verdict(line) else bad).append(line)
    return good, bad


def _is_verdict(line: str) -> bool:
    try:
        parse(line, _VerdictLine)
    except Unreadable:
        return False
    return True
