"""Verdicts on the trials of a study, in memory and, where there is a file, as lines of `race.jsonl`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestrator.common.files import append
from orchestrator.search.race.rules import Verdict
from orchestrator.search.race.verdict_log import read_verdicts
from orchestrator.search.records.partial_score import NOTHING_SEEN, SeenFolds


@dataclass(frozen=True)
class RecordedVerdict:
    """A verdict, and the finished folds that it is based on."""

    number: int  # of the trial
    folds: tuple[int, ...]
    verdict: Verdict

    def as_dict(self) -> dict[str, Any]:
        return {"trial": self.number, "folds": list(self.folds), **asdict(self.verdict)}

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> RecordedVerdict:
        verdict = Verdict(line["action"], line["reason"], line["against"], line["numbers"])
        return cls(line["trial"], tuple(line["folds"]), verdict)


class Verdicts:
    """The latest verdict on every trial; with a file, all verdicts of earlier runs are read from it."""

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self.latest: dict[int, Verdict] = {}  # by trial
        self.folds: dict[int, tuple[int, ...]] = {}  # that it is based on
        self.seen: dict[int, SeenFolds] = {}  # these, and the incumbent compared with on them
        for line in read_verdicts(file) if file is not None else ():
            self._keep(RecordedVerdict.of(line))

    def add(self, number: int, folds: tuple[int, ...], verdict: Verdict) -> None:
        """Keep a verdict; on disk before this returns."""
        recorded = RecordedVerdict(number, folds, verdict)
        if self.file is not None:
            line = json.dumps({"at": round(time.time(), 3), **recorded.as_dict()})
            append(self.file, f"{line}\n".encode(), sync=True)
        self._keep(recorded)

    def _keep(self, recorded: RecordedVerdict) -> None:
        number = recorded.number
        self.latest[number], self.folds[number] = recorded.verdict, recorded.folds
        self.seen[number] = self.seen.get(number, NOTHING_SEEN).then(recorded.as_dict())
