"""Rules of the race, by which trials get another fold: pure functions of scores, in one registry.

A trial is compared with the incumbent, the best trial that has all folds, on the images of the folds both have
(paired_scores.py). `paired` stops what is worse beyond a stated error rate, gives more folds to the few that may win,
and pauses the others: a paused trial holds nothing and may go on later. Scores are Dice in [0, 1].

The same calls of `see` and `judge` give the same verdicts, so that a study can be replayed from its ledger.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, ClassVar, get_args

from numpy.typing import ArrayLike

from orchestrator.common.names import require_entries
from orchestrator.scoring.formatting import percent, points
from orchestrator.search.choices import Action, RuleName
from orchestrator.search.race.paired_scores import ChosenBy, IncumbentComparison, PairedScores


@dataclass(frozen=True)
class Verdict:
    """The decision on a trial after a fold, and its reason."""

    action: Action  # go: next fold now; pause: may go on later; stop: never again
    reason: str  # one sentence with its numbers
    against: int | None = None  # the incumbent it was compared with
    numbers: dict[str, float] = field(default_factory=dict)


class Rule(ABC):
    """A rule that judges trials without all folds; its attributes tell the rest of a search how it works."""

    name: ClassVar[str]  # under which it is offered
    trains_all_folds: ClassVar[bool] = (
        False  # nothing is stopped or paused, neither between folds nor within a fit
    )
    compares_means: ClassVar[bool] = False  # stops by means over images, which say little of other objectives
    uses_predictions: ClassVar[bool] = (
        False  # ranks by what a model of all trials predicts, not by own scores
    )

    @abstractmethod
    def judge(self, board: PairedScores, number: int) -> Verdict:
        """The verdict on a trial after a fold."""

    @abstractmethod
    def recall(self, board: PairedScores, paused: Collection[int], new_wanted: bool) -> int | None:
        """The paused trial that goes on now, or None. new_wanted: whether new trials are still begun."""

    @property
    def most_finalists(self) -> float:
        """Most trials that get all folds at the end of a search, where none has them yet."""
        return math.inf


@dataclass(frozen=True)
class Paired(Rule):
    """Stop trials that are surely worse, go on with those that may win, pause the others.

    The error rate is divided by the number of looks, one a fold, and by the trials with all folds, because the
    incumbent is the luckiest of them (Bonferroni, twice).
    """

    name: ClassVar[RuleName] = "paired"
    compares_means: ClassVar[bool] = True
    uses_predictions: ClassVar[bool] = True

    error_rate: float = 0.05  # of ever stopping a trial as good as any that it was compared with
    least_folds: int = 1  # no stop before
    reduction: int = 4  # one in this many may have a second fold; after that its chance alone decides
    gain: float = 0.001  # Dice; a smaller one is not worth a fit
    least_chance: float = 0.2  # of that gain, to go on
    finalists: int = 3  # trials that have all folds before a winner is named

    @property
    def most_finalists(self) -> float:
        return self.finalists

    def judge(self, board: PairedScores, number: int) -> Verdict:
        incumbent = board.incumbent
        assert incumbent is not None
        found = board.compare(number, incumbent)
        if found is None:
            return Verdict(
                "pause",
                f"Trial {incumbent}, which it is compared with, has none of these folds yet.",
                incumbent,
            )
        looks = max(1, board.num_folds - self.least_folds)
        limit = self.error_rate / (looks * max(1, len(board.complete())))
        chance = found.chance(self.gain)
        numbers = _numbers(found) | {"chance": chance, "limit": limit}
        says = f"{_difference(found, incumbent)}"
        if found.folds >= self.least_folds and found.p_value < limit:
            return Verdict(
                "stop", f"{says}: worse, p = {found.p_value:.2g} < {limit:.2g}.", incumbent, numbers
            )
        if chance < self.least_chance:
            wanted = f"better by {100 * self.gain:.2g} points or more"
            reason = f"{says}: the chance that it is {wanted} is only {chance:.0%}."
            return Verdict("pause", reason, incumbent, numbers)
        if board.folds(number) == 1:
            rank, places = _rank(board, number, 1, self.reduction)
            numbers |= {"rank": rank, "places": places}
            if rank > places:
                reason = (
                    f"{says}: rank {rank} of the trials with one fold, of which {_first(places)} may get another for "
                    "now."
                )
                return Verdict("pause", reason, incumbent, numbers)
        return Verdict("go", f"{says}: the chance that it is better is {chance:.0%}.", incumbent, numbers)

    def recall(self, board: PairedScores, paused: Collection[int], new_wanted: bool) -> int | None:
        if not new_wanted:
            return finalist(board, paused, self.finalists)
        deeper = (number for number in board.ranked().best(at_least=2) if number in paused)
        hopeful = chain(deeper, _placed(board, paused, self.reduction, [1]))
        return next((number for number in hopeful if self._may_go(board, number)), None)

    def _may_go(self, board: PairedScores, number: int) -> bool:
        """Whether `judge` lets a paused trial go on; a refusal holds until incumbent or fit noise changes."""
        if board.no_chance.get(number) == board.since:
            return False
        if self.judge(board, number).action == "go":
            return True
        board.no_chance[number] = board.since
        return False


@dataclass(frozen=True)
class Everything(Rule):
    """Every trial gets all folds."""

    name: ClassVar[RuleName] = "none"
    trains_all_folds: ClassVar[bool] = True

    def judge(self, board: PairedScores, number: int) -> Verdict:
        return Verdict("go", "Every trial gets all folds.")

    def recall(self, board: PairedScores, paused: Collection[int], new_wanted: bool) -> int | None:
        return furthest(board, paused)


@dataclass(frozen=True)
class Asha(Rule):
    """Successive halving over folds, promoting as places open (Li et al., arXiv:1810.05934)."""

    name: ClassVar[RuleName] = "asha"

    reduction: int = 3

    def judge(self, board: PairedScores, number: int) -> Verdict:
        folds = board.folds(number)
        if folds not in self._rungs(board):
            return Verdict("go", f"Between rungs, with {folds} folds.")
        rank, places = _rank(board, number, folds, self.reduction)
        numbers = {"rank": float(rank), "places": float(places), "folds": float(folds)}
        reason = (
            f"Rank {rank} of the trials with {folds} folds, of which {_first(places)} may get more for now."
        )
        return Verdict("go" if rank <= places else "pause", reason, None, numbers)

    @property
    def most_finalists(self) -> float:
        return 1

    def _rungs(self, board: PairedScores) -> list[int]:
        rungs, rung = [], 1
        while rung < board.num_folds:
            rungs.append(rung)
            rung *= self.reduction
        return rungs

    def recall(self, board: PairedScores, paused: Collection[int], new_wanted: bool) -> int | None:
        between = [number for number in paused if board.folds(number) not in self._rungs(board)]
        placed = _placed(board, paused, self.reduction, reversed(self._rungs(board)))
        chosen = next(chain(between, placed), None)
        return chosen if chosen is not None or new_wanted or board.complete() else furthest(board, paused)


RULES: dict[str, type[Rule]] = {rule.name: rule for rule in (Paired, Asha, Everything)}
require_entries(RULES, get_args(RuleName), "racing rules")


class Race:
    """Race of trials by one rule. Trial 0, the baseline, and the incumbent get all folds at once."""

    def __init__(
        self,
        rule: str | Rule,
        groups: Sequence[Sequence[str]],
        *,
        fit_noise: float = 0.006,
        fit_noise_weight: float = 3.0,
        **fields: Any,
    ) -> None:
        """rule: a name in `RULES`, with its fields as keywords, or a rule. groups[fold][image]: a video or a patient.

        fit_noise: SD of a fit's mean Dice between training seeds, assumed with the weight of `fit_noise_weight`
        degrees of freedom until the study shows its own: with few, hardly anything is stopped before it does. Raises
        `ValueError` for an unknown name, or a noise or weight of 0 or less.
        """
        if isinstance(rule, str) and rule not in RULES:
            raise ValueError(f"no rule is named {rule!r}; known: {', '.join(RULES)}")
        if not (fit_noise > 0 and fit_noise_weight > 0):
            raise ValueError(f"fit_noise {fit_noise} and its weight {fit_noise_weight} must be above 0")
        self.board = PairedScores(groups, fit_noise, fit_noise_weight)
        self.rule = RULES[rule](**fields) if isinstance(rule, str) else rule

    def see(self, number: int, values: Mapping[int, ArrayLike], chosen_by: ChosenBy | None = None) -> None:
        """Set the scores of a trial, fold -> Dice in [0, 1] (images of that fold,), in place of earlier ones.

        chosen_by(folds): such scores of some folds, with masks chosen over these alone; None: masks do not
        depend on folds.
        """
        self.board.see(number, values, chosen_by)

    def judge(self, number: int) -> Verdict:
        """The verdict on a trial after a fold; `go` if it has all folds."""
        if not self.board.folds(number):
            raise ValueError(f"trial {number} has no finished fold to judge")
        if self.board.is_complete(number):
            return Verdict(
                "go", f"All {self.board.num_folds} folds are scored: {percent(self.board.mean(number))}."
            )
        if number in (0, self.incumbent):
            return Verdict("go", f"Trial {number} gets all folds: the others are compared with it.")
        return self.rule.judge(self.board, number)

    def recall(self, paused: Collection[int], new_wanted: bool) -> int | None:
        """The trial of `paused` that goes on before a new trial is begun, or None.

        new_wanted: False where no new trial is begun: then a trial that needs folds before a winner is named.
        """
        return self._recall(self._waiting(paused), new_wanted)

    def _waiting(self, paused: Iterable[int]) -> dict[int, None]:
        """The paused trials in order, without complete ones: a fit that two trials share may have completed one."""
        waiting = dict.fromkeys(paused)
        for number in waiting.keys() & self.board.complete():
            del waiting[number]
        return waiting

    def _recall(self, waiting: Collection[int], new_wanted: bool) -> int | None:
        for number in (0, self.incumbent):
            if number in waiting:  # a crash interrupted the one that others are compared with
                return number
        return self.rule.recall(self.board, waiting, new_wanted)

    def finalists(self, paused: Iterable[int]) -> list[int]:
        """The trials of `paused` that would be given folds if no new trial was begun, the best first."""
        left, found = self._waiting(paused), list[int]()
        most = math.inf if self.board.complete() else self.rule.most_finalists
        while len(found) < most and (number := self._recall(left, False)) is not None:
            del left[number]
            found.append(number)
        return found

    def exclude(self, number: int) -> None:
        """Exclude a trial that violates a constraint, or failed."""
        self.board.exclude(number)

    def estimate(self, number: int) -> float:
        """Mean of the incumbent plus the mean paired difference to it on the folds seen."""
        return self.board.estimate(number)

    def predict(self, values: Mapping[int, float], *, replace_all: bool = True) -> None:
        """Rank trials by these predictions of a model; replace_all: False where all other trials keep theirs."""
        self.board.predict(values, replace_all=replace_all)

    @property
    def incumbent(self) -> int | None:
        """The trial that others are compared with: see `PairedScores.incumbent`."""
        return self.board.incumbent


def _places(board: PairedScores, folds: int, reduction: int) -> int:
    """Number of the trials with exactly `folds` folds that may have one more."""
    ranks = board.ranked()
    return max(0, ranks.count(folds) // reduction - ranks.count(folds + 1))


def _rank(board: PairedScores, number: int, folds: int, reduction: int) -> tuple[int, int]:
    """Rank of a trial, from 1, among those with exactly `folds` folds, and the result of `_places`."""
    return board.ranked().place(number) + 1, _places(board, folds, reduction)


def _first(places: int) -> str:
    """Text such as "the first 3"; "none" for 0."""
    return f"the first {places}" if places > 1 else "the first" if places else "none"


def _placed(
    board: PairedScores, paused: Collection[int], reduction: int, levels: Iterable[int]
) -> Iterator[int]:
    """Paused trials whose rank lets them go on, those with most folds first."""
    for folds in levels:
        waiting = islice(board.ranked().with_folds(folds), _places(board, folds, reduction))
        yield from (number for number in waiting if number in paused)


def furthest(board: PairedScores, paused: Collection[int]) -> int | None:
    """The waiting trial with most folds, or None; a crash leaves such trials even to rules without pauses."""
    return min(paused, key=lambda number: (-board.folds(number), number), default=None)


def finalist(board: PairedScores, paused: Collection[int], finalists: int) -> int | None:
    """The best paused trial, or None; once a trial has all folds, only from the best `finalists` of all."""
    seen = board.ranked().best()
    best = islice(seen, finalists) if board.may_end else seen
    return next((number for number in best if number in paused), None)


def _numbers(found: IncumbentComparison) -> dict[str, float]:
    return {
        "difference": found.difference,
        "standard_error": found.standard_error,
        "p_value": found.p_value,
        "folds": float(found.folds),
    }


def _difference(found: IncumbentComparison, incumbent: int) -> str:
    folds = "1 fold" if found.folds == 1 else f"{found.folds} folds"
    error = percent(found.standard_error)
    return f"{points(found.difference)} ± {error} Dice points against trial {incumbent} on {folds}"
