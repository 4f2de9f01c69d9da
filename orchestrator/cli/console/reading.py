"""Parts shared by commands that read a study: the choice of the study, and messages on damaged files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.common.display import Display
from orchestrator.terminal.printing import err

if TYPE_CHECKING:
    from orchestrator.results.stored_study import StoredStudy


def study_of(
    home: Path,
    study: str | None,
    metric: str,
    export: Path | None = None,
    formats: str | None = None,
    tracking_uri: str | None = None,
    how: Mapping[str, Any] | None = None,
) -> StoredStudy:
    """A study by its name, None: the one worked on last. Raises, in one error, every mistake in what is asked of it.

    `how`: what else a trial is chosen by; None where none is chosen.
    """
    from orchestrator.api.studies import load_study
    from orchestrator.common.errors import Mistakes
    from orchestrator.results.stored_study import refuse_request

    mistakes = Mistakes()
    with mistakes.noted():
        found = load_study(study, home=home)
    with mistakes.noted():
        refuse_request(metric, export, formats, tracking_uri, how)
    mistakes.raise_all()
    return found


def say_damage(line: str) -> None:
    """Print one sentence about files that do not read."""
    err.print(line, style="bold", markup=False, highlight=False)


ON_DAMAGE = Display(note=say_damage)
