"""Views of the trials of a study, from the state of the race, which knows every finished fold."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from typing import Any

from optuna.trial import TrialState as OptunaState

from orchestrator.scoring.statistics import cluster_interval
from orchestrator.search.race.rules import RULES
from orchestrator.search.race.state import RaceState
from orchestrator.search.records.status import (
    Best,
    FoldView,
    TrialState,
    TrialView,
)
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.search.store.trials import STATES

InFlight = Mapping[int, Mapping[int, FoldView]]  # trial -> fold -> how far it is


def trial_views(
    standings: RaceState,
    over: Mapping[int, TrialState],
    params: Mapping[int, dict[str, Any]],
    in_flight: InFlight,
    most: int | None = None,
) -> tuple[tuple[TrialView, ...], dict[TrialState, int]]:
    """Views of all trials, the best first; with `most`, of those in flight and the best alone, and the number
    of others in each state.

    Reads no file, since it is called every second.
    """

    def rank(number: int) -> tuple[bool, float, int]:
        # Those with all their folds first: the scores of the others are imputed.
        folds, _ = standings.shown(number) or ((), None)
        return len(folds) < len(standings.plan.folds), -(standings.known(number) or -1.0), number

    numbers = {**standings.configurations, **over}
    if most is None or len(numbers) <= most:
        shown, others = sorted(numbers, key=rank), Counter[TrialState]()
    else:
        running = [number for number in in_flight if number in numbers][:most]
        best = heapq.nsmallest(most - len(running), numbers.keys() - running, key=rank)
        shown = sorted([*running, *best], key=rank)
        others = Counter(_state(standings, number, over, in_flight) for number in numbers.keys() - shown)
    return tuple(_view(standings, number, over, params, in_flight) for number in shown), dict(others)


def _view(
    standings: RaceState,
    number: int,
    over: Mapping[int, TrialState],
    params: Mapping[int, dict[str, Any]],
    in_flight: InFlight,
) -> TrialView:
    state, shown, known = (
        _state(standings, number, over, in_flight),
        standings.partial(number),
        standings.known(number),
    )
    score = standings.scores[number].metrics["dice"] if shown is None else None
    return TrialView(
        number=number,
        state=state,
        dice=score,
        folds=_folds(standings, number, in_flight.get(number, {})),
        params=params.get(number, {}),
        said=standings.verdicts[number].reason if number in standings.verdicts else None,
        objective=known if shown is None else None,
        partial=shown,
        estimate=known,
    )


def _state(
    standings: RaceState, number: int, over: Mapping[int, TrialState], in_flight: InFlight
) -> TrialState:
    if number in over:
        return over[number]
    if in_flight.get(number):
        return "running"
    verdict = standings.verdicts.get(number)
    return "waiting" if verdict is not None and verdict.action == "pause" else "open"


def _folds(standings: RaceState, number: int, in_flight: Mapping[int, FoldView]) -> tuple[FoldView, ...]:
    folds, score = standings.shown(number) or ((), None)
    done = dict(zip(folds, score.fold_dice, strict=True)) if score is not None else {}
    return tuple(
        FoldView("done", dice=done[fold]) if fold in done else in_flight.get(fold, FoldView())
        for fold in range(len(standings.plan.folds))
    )


class BestSoFar:
    """The best trial with all folds, or else the incumbent of the race, as `Best`.

    Its interval is computed again only when the trial changes, or has more folds.
    """

    def __init__(self, standings: RaceState) -> None:
        self.standings = standings
        self.seen: tuple[int, tuple[int, ...]] | None = None
        self.best: Best | None = None

    def __call__(self) -> Best | None:
        number = self._number()
        if number is None or number not in self.standings.scores:
            return None
        seen = number, self.standings.seen[number]
        if seen != self.seen:
            self.seen, self.best = seen, self._measure(number)
        return self.best

    def _number(self) -> int | None:
        num_folds = len(self.standings.plan.folds)
        complete = [
            number
            for number, folds in self.standings.seen.items()
            if len(folds) == num_folds and self.standings.broken(number) is None
        ]
        if not complete:
            return self.standings.race.incumbent
        return max(complete, key=lambda number: (self.standings.known(number) or 0.0, -number))

    def _measure(self, number: int) -> Best:
        score = self.standings.scores[number]
        groups = [self.standings.group_of_case[case_id] for case_id in score.case_ids]
        is_mean = self.standings.objective.is_mean and len(set(groups)) > 1
        interval = cluster_interval(score.dice_of_case, groups) if is_mean else None
        dice, cross_fitted = self.standings.known(number), (score.cross_fitted or {}).get("dice")
        return Best(
            number, 0.0 if dice is None else dice, interval, len(self.standings.seen[number]), cross_fitted
        )


def replayed_views(snapshot: StudySnapshot, rule: str) -> tuple[tuple[TrialView, ...], Best | None]:
    """Trials of a study that no process works on, best first, and the best one so far, by the state of the race."""
    standings = RaceState(
        snapshot,  # type: ignore[arg-type]  # it finds records as a ledger does, and nothing else is asked of it
        snapshot.space,
        snapshot.plan,
        snapshot.group_of_case,
        rule if rule in RULES else "none",  # type: ignore[arg-type]  # one that earlier versions offered
        snapshot.store.race_file,
        snapshot.objective,
        snapshot.secondary,
        snapshot.score_of,
    )
    over: dict[int, TrialState] = {}
    params: dict[int, dict[str, Any]] = {}
    for trial in snapshot.stored_trials:
        if trial.state.is_finished():
            over[trial.number] = STATES[trial.state]  # type: ignore[assignment]  # the words are the same
        if trial.state != OptunaState.WAITING and standings.fits(trial):
            params[trial.number] = snapshot.space.shown(trial.params)
            standings.enter(trial)
        if trial.state == OptunaState.FAIL:
            standings.leave(trial.number)
    return trial_views(standings, over, params, {})[0], BestSoFar(standings)()
