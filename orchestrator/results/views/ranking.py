"""The leaderboard of a study by one metric: its rows, the networks it compares, and the tables that show both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rich.console import Group
from rich.table import Table

from orchestrator.results.views.by_network import (
    NetworkStanding,
    network_sentence,
    network_table,
    networks_of,
)
from orchestrator.results.views.short_leaderboard import short_leaderboard
from orchestrator.results.views.study_scores import board, nested_lines
from orchestrator.results.views.tables import LeaderboardRow, leaderboard, leaderboard_dicts
from orchestrator.search.store.snapshot import StudySnapshot


@dataclass(frozen=True)
class Ranking:
    """Every trial of a study with its scores, ranked by a metric."""

    study: StudySnapshot
    metric: str

    @cached_property
    def rows(self) -> list[LeaderboardRow]:
        """A row for every trial, by number."""
        return board(self.study, self.metric)

    @cached_property
    def networks(self) -> list[NetworkStanding]:
        """Every network of a study over several, the best first; [] for a study of one network."""
        return networks_of(self.study, self.rows, self.metric)

    def as_dicts(self) -> list[dict[str, Any]]:
        """A dictionary for every trial, best first; scores in [0, 1], None where there is none."""
        return leaderboard_dicts(self.rows, self.metric)

    def tables(self, width: int, *, everything: bool = False) -> list[Table | Group | str]:
        """Networks and trials in percent, for `width` columns, and results of nested cross-validation."""
        name, objective = self.study.name, self.study.objective
        heading = None if objective.is_mean else objective.name
        if everything:
            title = f"{name}, scores on validation images in percent"
            shown = leaderboard(self.rows, title, self.metric, heading, width)
        else:
            shown = short_leaderboard(self.rows, name, self.metric, heading, width)
        networks = self.networks
        above = (network_table(networks, self.metric), network_sentence(networks)) if networks else ()
        return [*above, shown, *nested_lines(self.study)]
