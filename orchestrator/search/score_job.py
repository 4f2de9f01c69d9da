"""The job, for a lane, of scoring networks on cases outside of their training."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.search.records.fit_records import scored_as
from orchestrator.training.jobs import job_kind


@job_kind
@dataclass(frozen=True)
class ScoreJob:
    """Score one finished fit's network, or several whose probabilities are averaged, on cases that none has seen.

    A fit that is named twice counts twice. Views and filters are those of the first.
    """

    fit_id: str
    name: str  # "test", or the unseen dataset's, or a fold's
    datasets: dict[str, str]  # name -> fingerprint
    case_ids: tuple[str, ...]
    others: tuple[str, ...] = ()  # further fits

    @property
    def fit_ids(self) -> tuple[str, ...]:
        return (self.fit_id, *self.others)

    @property
    def scored_as(self) -> str:
        """Name under which the scores are stored."""
        return scored_as(self.fit_ids)
