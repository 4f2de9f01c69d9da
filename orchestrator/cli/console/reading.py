"""What commands share that read a study: what is asked of it, and what of it does not read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.cli.console.printing import err

if TYPE_CHECKING:
    from orchestrator.search.store.snapshot import StudySnapshot


def tell_damage(snapshot: StudySnapshot) -> None:
    """Say which files of a study do not read, and are left out."""
    from orchestrator.search.store.damage import damage

    for line in damage(snapshot):
        err.print(line, style="bold", markup=False, highlight=False)


def known_metric(metric: str) -> str:
    from orchestrator.common.errors import BadStudy
    from orchestrator.scoring.metrics import metric_name

    try:
        return metric_name(metric, masks=False)
    except ValueError as unknown:
        raise BadStudy("--metric", str(unknown)) from None
