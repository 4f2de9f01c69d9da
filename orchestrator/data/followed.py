"""Choice of the validation cases that a fit follows from epoch to epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from orchestrator.data.cases import Case

NUM_CASES = 2


def followed_cases(val: Sequence[Case]) -> tuple[str, ...]:
    """Ids of up to NUM_CASES validation cases to follow: always the same, with a polyp where any has one."""
    ordered = sorted(val, key=lambda case: hashlib.sha256(case.id.encode()).digest())
    with_polyp = [case for case in ordered if case.polyp_fraction > 0]
    return tuple(case.id for case in (with_polyp or ordered)[:NUM_CASES])
