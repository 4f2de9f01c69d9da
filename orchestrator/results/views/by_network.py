"""Which network is best: of a study over several networks the best trial of each, compared on the same images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table

from orchestrator.results.views.tables import LeaderboardRow, ranked_rows
from orchestrator.scoring.formatting import percent
from orchestrator.search.records.partial_score import PartialScore
from orchestrator.search.significance import SURE, PairedTest, all_against, compared_trial, share_of_test
from orchestrator.search.store.snapshot import StudySnapshot


@dataclass(frozen=True)
class NetworkStanding:
    """One network of a study, by its best trial."""

    network: str
    num_trials: int
    minutes: float  # of training, over all its trials
    trial: int | None = (
        None  # the best one with all folds; else the one that has shown most; None: there is none
    )
    # Mean over the validation images by the metric asked for, each fold at the threshold of the others, as intervals
    # and differences are; None while it lacks folds.
    score: float | None = None
    interval: tuple[float, float] | None = None  # 95 % of that mean
    partial: PartialScore | None = None  # where no trial has all folds
    lead: PairedTest | None = None  # the study's best trial less this one; None of that one itself

    @property
    def verdict(self) -> str:
        """How the network stands against the best one, in a few words."""
        if self.trial is None:
            return "no trial yet"
        if self.score is None:
            return f"stopped: {self.partial.with_difference()}" if self.partial is not None else "not over"
        if self.lead is None:
            return "the best"
        low, high = sorted(-100 * end for end in self.lead.interval)
        known = f" ({low:+.1f} to {high:+.1f})" if math.isfinite(high - low) else ""
        what = "worse" if self.lead.is_sure else "not significantly different"
        return f"{-100 * self.lead.difference:+.2f}{known}, {what}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values; scores and differences in [-1, 1]."""
        return {
            "network": self.network,
            "trials": self.num_trials,
            "minutes": self.minutes,
            "trial": self.trial,
            "score": self.score,
            "interval": None if self.interval is None else list(self.interval),
            "lead_of_best": None if self.lead is None else self.lead.as_dict(),
        }


def networks_of(
    snapshot: StudySnapshot, rows: Sequence[LeaderboardRow], metric: str = "dice"
) -> list[NetworkStanding]:
    """Every network of a study over several, the best first; none of a study of one network."""
    if len(snapshot.space.networks) < 2:
        return []
    ranked = ranked_rows(rows, metric)
    first: dict[str, LeaderboardRow] = {}
    for rank, row in ranked:
        if rank is not None:
            first.setdefault(row.network, row)
    leads = _leads(snapshot, [row.number for row in first.values()], metric)
    order = [*first, *(name for name in snapshot.space.networks if name not in first)]
    return [_standing(snapshot, name, rows, first.get(name), leads, metric) for name in order]


def _standing(
    snapshot: StudySnapshot,
    network: str,
    rows: Sequence[LeaderboardRow],
    best: LeaderboardRow | None,
    leads: dict[int, PairedTest],
    metric: str,
) -> NetworkStanding:
    own = [row for row in rows if row.network == network]
    minutes = sum(row.minutes for row in own)
    if best is None:
        shown = max(own, key=_shown, default=None)
        if shown is None:
            return NetworkStanding(network, 0, 0.0)
        return NetworkStanding(network, len(own), minutes, shown.number, partial=shown.partial)
    score = next(score for trial, score in snapshot.ranked(metric) if trial.number == best.number)
    interval = snapshot.interval(score.values_of_case[metric], score.case_ids)
    return NetworkStanding(
        network,
        len(own),
        minutes,
        best.number,
        float(score.values_of_case[metric].mean()),
        interval if all(map(math.isfinite, interval)) else None,
        lead=leads.get(best.number),
    )


def _shown(row: LeaderboardRow) -> tuple[int, float]:
    """Sort key of trials without all folds: number of folds, then paired difference to the incumbent."""
    if row.partial is None:
        return 0, -math.inf
    pair = row.partial.paired_difference
    return row.partial.folds_seen, -math.inf if pair is None else pair


def _leads(snapshot: StudySnapshot, numbers: Sequence[int], metric: str) -> dict[int, PairedTest]:
    """Trial -> paired test of the first trial against it; Holm's correction covers all of these."""
    if len(numbers) < 2:
        return {}
    scores = {trial.number: score for trial, score in snapshot.ranked(metric)}
    winner, *others = (compared_trial(number, scores[number], metric) for number in numbers)
    groups = snapshot.groups_of(scores[numbers[0]].case_ids)
    return {test.other: test for test in all_against(winner, others, groups, share_of_test(snapshot.plan))}


def network_table(networks: Sequence[NetworkStanding], metric: str = "dice") -> Table:
    """A row for every network; scores in percent, differences in points."""
    title = (
        f"networks, by the best trial of each: {metric} on validation images in percent,\n"
        "each fold at the threshold of the others"
    )
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    table.add_column("network", overflow="fold")
    for name in ("trial", metric, "95 %", "trials", "min"):
        table.add_column(name, justify="right")
    table.add_column("against the best (95 %)", overflow="fold")
    for place, one in enumerate(networks):
        ends = "–" if one.interval is None else f"{100 * one.interval[0]:.1f}-{100 * one.interval[1]:.1f}"
        table.add_row(
            one.network,
            "–" if one.trial is None else str(one.trial),
            percent(one.score),
            ends,
            str(one.num_trials),
            f"{one.minutes:.1f}",
            one.verdict,
            style="bold" if place == 0 and one.score is not None else None,
        )
    return table


def network_sentence(networks: Sequence[NetworkStanding]) -> str:
    """Conclusion of the table in one sentence; "" where no trial has all its folds."""
    best = networks[0] if networks else None
    if best is None or best.score is None:
        return ""
    equal = [one.network for one in networks[1:] if one.lead is not None and not one.lead.is_sure]
    if equal:
        return (
            f"{best.network} scores highest; not significantly different at {SURE:.0%}: {', '.join(equal)}."
        )
    if all(one.lead is not None for one in networks[1:]):
        return f"{best.network} is the best network on these images: every other one is worse at {SURE:.0%}."
    whole = [one.network for one in networks[1:] if one.lead is not None]
    others = f"{', '.join(whole)}: worse at {SURE:.0%}; the others have" if whole else "no other network has"
    return f"{best.network} scores highest; {others} no trial with all its folds."
