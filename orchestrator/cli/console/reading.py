"""What commands share that read a study: which of its files do not read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.cli.console.printing import err

if TYPE_CHECKING:
    from orchestrator.search.store.snapshot import StudySnapshot


def tell_damage(snapshot: StudySnapshot) -> None:
    """Say which files of a study do not read, and are left out."""
    from orchestrator.search.store.damage import damage

    for line in damage(snapshot):
        say_damage(line)


def say_damage(line: str) -> None:
    """Print one sentence about files that do not read."""
    err.print(line, style="bold", markup=False, highlight=False)
