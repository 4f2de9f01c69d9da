"""Files that an import left out because the user chose so: which, why, and what share they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.data.sources.collect import Found
from orchestrator.data.unusable import Bad

SKIP_BAD = "--skip-bad leaves out what cannot be used, and keeps a list of it"


def skipped_cases(found: Found, unusable: Mapping[str, Sequence[str]]) -> tuple[Bad, ...]:
    """Files that make no pair, and pairs that cannot be used (problems by stem), each with the reason."""
    skipped = list(found.bad)
    for stem, problems in unusable.items():
        for problem in problems:
            file, _, why = problem.partition(": ")
            skipped.append(Bad(file, why, stem) if why else Bad(stem, problem, stem))
    return tuple(skipped)


def share_skipped(skipped: Sequence[Bad], num_kept: int) -> list[str]:
    """A remark on how many were left out, if any were."""
    if not skipped:
        return []
    cases = len({bad.stem or bad.file for bad in skipped})
    return [
        f"skipped {cases} of {cases + num_kept} cases ({cases / (cases + num_kept):.1%}), as --skip-bad asks"
    ]
