"""Sentences on the files of a study that cannot be read. Nothing is changed: `orchestrator search` repairs them."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.common.display import counted
from orchestrator.search.store.snapshot import StudySnapshot

MOST_NAMED = 3  # files in one line


def damage(snapshot: StudySnapshot) -> list[str]:
    """A line for each kind of file that cannot be read and is ignored until the search continues."""
    lines = []
    if records := snapshot.damaged_records:
        named = [f"{folder} ({why})" for folder, why in records.items()]
        treated = "is treated" if len(named) == 1 else "are treated"
        lines.append(
            f"{counted(len(named), 'record')} cannot be read and {treated} as missing: {_some(named)}; the same "
            "`orchestrator search` sets such records aside and makes them again"
        )
    if (why := snapshot.journal_damage) is not None:
        lines.append(
            f"{snapshot.store.journal_file} {why}: trials are shown as the ledger has them; the same "
            "`orchestrator search` rebuilds it"
        )
    if num_bad := snapshot.num_bad_verdicts:
        lines.append(f"{snapshot.store.race_file}: {counted(num_bad, 'line')} left out, which cannot be read")
    return lines


def _some(named: Sequence[str]) -> str:
    more = len(named) - MOST_NAMED
    return ", ".join(named[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
