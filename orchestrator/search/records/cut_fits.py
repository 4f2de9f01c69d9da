"""Epochs of fits that were cut or failed, a line of JSON a fit: the only trace of training that no record holds."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrator.common.files import append
from orchestrator.common.stored_json import Unreadable, parse


@dataclass(frozen=True)
class CutFit:
    """A fit of a trial that was stopped or failed before the fit was finished."""

    trial: int
    fold: int
    fit_id: str
    rows: list[dict[str, float]]  # one an epoch, as in `FitRecord.curves`

    @property
    def seconds(self) -> float:
        """Seconds that its epochs took."""
        return sum(row.get("seconds", 0.0) for row in self.rows)


def append_cut_fit(file: Path, cut: CutFit) -> None:
    """Add a line, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    append(file, f"{json.dumps(asdict(cut))}\n".encode())


def parse_cut_fits(lines: Sequence[str]) -> list[CutFit]:
    """The cut fits in these lines; damaged lines are left out, since no result depends on them."""
    found = []
    for line in lines:
        try:
            found.append(parse(line, CutFit))
        except Unreadable:
            continue
    return found


def by_trial(cuts: Iterable[CutFit]) -> dict[int, list[CutFit]]:
    """Trial number -> its cut fits, in order; trials without any are left out."""
    found: defaultdict[int, list[CutFit]] = defaultdict(list)
    for cut in cuts:
        found[cut.trial].append(cut)
    return dict(found)
