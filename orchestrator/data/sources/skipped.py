"""Files left out of an import by the user's choice: names, reasons, share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.data.sources.collect import Found
from orchestrator.data.unusable import Bad

SKIP_BAD = "--skip-bad leaves out unusable files, and keeps a list of them"


def skipped_cases(found: Found, unusable: Mapping[str, Sequence[str]]) -> tuple[Bad, ...]:
    """Files without a partner, and pairs with problems (by stem), each with the reason."""
    skipped = list(found.bad)
    for stem, problems in unusable.items():
        for problem in problems:
            file, _, why = problem.partition(": ")
            skipped.append(Bad(file, why, stem) if why else Bad(stem, problem, stem))
    return tuple(skipped)


def share_skipped(skipped: Sequence[Bad], num_kept: int) -> list[str]:
    """A remark on the number of cases left out; empty if there are none."""
    if not skipped:
        return []
    cases = len({bad.stem or bad.file for bad in skipped})
    return [f"skipped {cases} of {cases + num_kept} cases ({cases / (cases + num_kept):.1%}), by --skip-bad"]
