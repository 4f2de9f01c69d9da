"""Who gets another fold: six rules, pure functions of the scores seen.

A setting is compared with the incumbent, the best setting that has all folds, on the images of the folds both have
(board.py). `paired` stops what is worse beyond a stated error rate, gives more folds to the few that may win, and lets
the others wait: a waiting setting holds nothing and may be taken up again. Scores are Dice in [0, 1].

The same calls of `see` and `judge` give the same verdicts, so that a study can be replayed from its ledger.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from orchestrator.scoring.formatting import percent, points
from orchestrator.search.choices import Action, RuleName
from orchestrator.search.race.paired_scores import ChosenBy, Comparison, PairedScores


@dataclass(frozen=True)
class Verdict:
    """What happens to a setting after a fold, and why."""

    action: Action  # go: next fold now; pause: may be taken up again; stop: never again
    reason: str  # one sentence with its numbers
    against: int | None = None  # the incumbent it was compared with
    numbers: dict[str, float] = field(default_factory=dict)


class Rule(Protocol):
    """Judges settings that still lack folds; `recall` says which waiting one goes on."""

    def judge(self, board: PairedScores, number: int) -> Verdict: ...

    def recall(self, board: PairedScores, paused: Collection[int], new_wanted: bool) -> int | None: ...

    @property
    def most_finalists(self) -> float:
        """How many get all folds at the end, at most, where none has them yet."""
        return math.inf


@dataclass(frozen=True)
class Paired(Rule):
    """Stop what is worse for sure; go on with what may win; let the others wait.

    The error rate is divided by the looks, one a fold, and by the settings with all folds, for the incumbent is the
    luckiest of them (Bonferroni, twice).
    """

    error_rate: float = 0.05  # of ever stopping a setting as good as any that it was compared with
    least_folds: int = 1  # no stop before
    reduction: int = 4  # one in this many may have a second fold; after that its chance alone decides
    gain: float = 0.001  # Dice; a smaller one is not worth a fit
    least_chance: float = 0.2  # of that gain, to go on
    finalists: int = 3  # settings that have all folds before a winner is named

    @property
    def most_finalists(self) -> float:
        return self.finalists

    def judge(self, board: PairedScores, number: int) -> Verdict:
        incumbent = board.incumbent
        assert incumbent is not None
        found = board.compare(number, incumbent)
        if found is None:
            return Verdict(
                "pause", f"Setting {incumbent}, to compare with, has none of these folds yet.", incumbent
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
            reason = f"{says}: a gain above {100 * self.gain:.2g} points has a chance of {chance:.0%} only."
            return Verdict("pause", reason, incumbent, numbers)
        if board.folds(number) == 1:
            rank, places = _rank(board, number, 1, self.reduction)
            numbers |= {"rank": rank, "places": places}
            if rank > places:
                reason = f"{says}: number {rank} of those with one fold, where {places} may go on."
                return Verdict("pause", reason, incumbent, numbers)
        return Verdict("go", f"{says}: a gain has a chance of {chance:.0%}.", incumbent, numbers)

    def recall(self, board: PairedScores, paused: Collection[int], new_wanted: bool) -> int | None:
        if not new_wanted:
            return _finalist(board, paused, self.finalists)
        deeper = (number for number in board.ranked().best(at_least=2) if number in paused)
        hopeful = chain(deeper, _placed(board, paused, self.reduction, [1]))
        return next((number for number in hopeful if self._may_go(board, number)), None)

    def _may_go(self, board: PairedScores, number: int) -> bool:
        """As `judge` says of one that waits in its place; who has no chance has none until something else is known."""
        if board.no_chance.get(number) == board.since:
            return False
        if self.judge(board, number).action == "go":
            return True
        board.no_chance[number] = board.since
        return False


@dataclass(frozen=True)
class Everything(Rule):
    """Every setting gets all folds."""

    def judge(self, board: PairedScores, number: int) -> Verdict:
        return Verdict("go", "Every setting gets all folds.")

    def recall(self, board: PairedScores, paused: Collection[int], new_wanted: bool) -> int | None:
        return _furthest(board, paused)


@dataclass(frozen=True)
class Forgiving(Rule):
    """Stop below the incumbent's worst fold (Bergman, Purucker and Hutter, arXiv:2405.03389)."""

    least_folds: int = 1

    def judge(self, board: PairedScores, number: int) -> Verdict:
        incumbent = _complete_incumbent(board)
        if incumbent is None:
            return _nobody_complete()
        mean, worst = board.mean(number), min(board.means[incumbent].values())
        numbers = {"mean": mean, "worst_fold": worst, "folds": float(board.folds(number))}
        stop = mean < worst and board.folds(number) >= self.least_folds
        word = "below" if mean < worst else "not below"
        reason = (
            f"Mean {percent(mean)} over {board.folds(number)} folds is {word} {percent(worst)}, "
            f"setting {incumbent}'s worst."
        )
        return Verdict("stop" if stop else "go", reason, incumbent, numbers)

    def recall(self, board: PairedScores, paused: Collection[int], new_wanted: bool) -> int | None:
        return _furthest(board, paused)


@dataclass(frozen=True)
class Asha(Rule):
    """Successive halving over folds, promoting as places open (Li et al., arXiv:1810.05934)."""

    reduction: int = 3

    def judge(self, board: PairedScores, number: int) -> Verdict:
        folds = board.folds(number)
        if folds not in self._rungs(board):
            return Verdict("go", f"Between rungs, with {folds} folds.")
        rank, places = _rank(board, number, folds, self.reduction)
        numbers = {"rank": float(rank), "places": float(places), "folds": float(folds)}
        reason = f"Number {rank} at {folds} folds, where {places} may go on."
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
        return chosen if chosen is not None or new_wanted or board.complete() else _furthest(board, paused)


@dataclass(frozen=True)
class Median(Rule):
    """Stop below the median of the others at as many folds (Golovin et al., Vizier, 2017)."""

    least_others: int = 5

    def judge(self, board: PairedScores, number: int) -> Verdict:
        folds = board.folds(number)
        others = [
            float(np.mean(list(board.alike(other, list(means)[:folds]).means.values())))
            for other, means in board.means.items()
            if other != number and len(means) >= folds
        ]
        if len(others) < self.least_others:
            return Verdict(
                "go", f"{len(others)} others have {folds} folds; a median needs {self.least_others}."
            )
        mean, middle = float(np.mean(list(board.means[number].values()))), float(np.median(others))
        numbers = {"mean": mean, "median": middle, "others": float(len(others)), "folds": float(folds)}
        word = "below" if mean < middle else "not below"
        reason = (
            f"Mean {percent(mean)} over {folds} folds is {word} {percent(middle)}, "
            f"the median of {len(others)} others."
        )
        return Verdict("stop" if mean < middle else "go", reason, None, numbers)

    def recall(self, board: PairedScores, paused: Collection[int], new_wanted: bool) -> int | None:
        return _furthest(board, paused)


@dataclass(frozen=True)
class Wilcoxon(Rule):
    """Optuna's WilcoxonPruner over fold means: signed ranks against the best complete setting."""

    p_threshold: float = 0.1
    least_folds: int = 2

    def judge(self, board: PairedScores, number: int) -> Verdict:
        incumbent = _complete_incumbent(board)
        if incumbent is None:
            return _nobody_complete()
        own = board.means[number]
        best = board.alike(incumbent, list(own)).means
        if len(own) < max(2, self.least_folds):
            return Verdict("go", f"Signed ranks need more folds than {len(own)}.", incumbent)
        differences = np.array([own[fold] - best[fold] for fold in own])
        p_value = float(stats.wilcoxon(differences, alternative="less", zero_method="zsplit").pvalue)
        # As in Optuna: who has the better mean so far is kept whatever its ranks say.
        worse = float(np.mean(list(own.values()))) < float(np.mean(list(board.means[incumbent].values())))
        numbers = {"difference": float(differences.mean()), "p_value": p_value, "folds": float(len(own))}
        stop = worse and p_value < self.p_threshold
        sign = "<" if p_value < self.p_threshold else ">="
        end = ", and its mean is worse." if stop else "."
        says = f"Signed ranks of {len(own)} folds against setting {incumbent}: p = {p_value:.2g} {sign} "
        reason = f"{says}{self.p_threshold}{end}"
        return Verdict("stop" if stop else "go", reason, incumbent, numbers)

    def recall(self, board: PairedScores, paused: Collection[int], new_wanted: bool) -> int | None:
        return _furthest(board, paused)


RULES: dict[RuleName, Callable[..., Rule]] = {
    "paired": Paired,
    "forgiving": Forgiving,
    "asha": Asha,
    "median": Median,
    "wilcoxon": Wilcoxon,
    "none": Everything,
}


class Race:
    """Scores in, verdicts out. Setting 0 and whoever is the only one to compare with get all folds at once."""

    def __init__(
        self,
        rule: RuleName,
        groups: Sequence[Sequence[str]],
        *,
        fit_noise: float = 0.006,
        fit_noise_weight: float = 3.0,
        **configuration: Any,
    ) -> None:
        """groups[fold][image]: what is drawn together, a video or a patient. settings: fields of the rule.

        fit_noise: SD of a fit's mean Dice between training seeds, as assumed with the weight of `fit_noise_weight`
        degrees of freedom until the study shows its own: with few, hardly anything is stopped before it does.
        """
        if rule not in RULES:
            raise ValueError(f"no rule is named {rule!r}; known: {', '.join(RULES)}")
        if not (fit_noise > 0 and fit_noise_weight > 0):
            raise ValueError(f"fit_noise {fit_noise} and its weight {fit_noise_weight} must be above 0")
        self.board = PairedScores(groups, fit_noise, fit_noise_weight)
        self.rule: Rule = RULES[rule](**configuration)

    def see(self, number: int, values: Mapping[int, ArrayLike], chosen_by: ChosenBy | None = None) -> None:
        """Take fold -> Dice in [0, 1], (images of that fold,), in place of what was seen of that setting.

        chosen_by(folds): the same of some of its folds, where masks are made as these folds choose; without it masks
        do not depend on the folds.
        """
        self.board.see(number, values, chosen_by)

    def judge(self, number: int) -> Verdict:
        """What to do with a setting after a fold. With all folds it is `go`: there is nothing left to decide."""
        if not self.board.folds(number):
            raise ValueError(f"setting {number} has no finished fold to judge")
        if self.board.is_complete(number):
            return Verdict(
                "go", f"All {self.board.num_folds} folds are scored: {percent(self.board.mean(number))}."
            )
        if number in (0, self.incumbent):
            return Verdict("go", f"Setting {number} gets all folds: the others are compared with it.")
        return self.rule.judge(self.board, number)

    def recall(self, paused: Collection[int], new_wanted: bool) -> int | None:
        """Who of `paused` goes on before a new setting is tried; None: nobody.

        new_wanted False: no new setting will come, so who still needs folds before a winner can be named.
        """
        return self._recall(self._waiting(paused), new_wanted)

    def _waiting(self, paused: Iterable[int]) -> dict[int, None]:
        """In order; a fold that two settings share may have completed one that waits."""
        waiting = dict.fromkeys(paused)
        for number in waiting.keys() & self.board.complete():
            del waiting[number]
        return waiting

    def _recall(self, waiting: Collection[int], new_wanted: bool) -> int | None:
        for number in (0, self.incumbent):
            if number in waiting:  # a crash cut short whom the others are compared with
                return number
        return self.rule.recall(self.board, waiting, new_wanted)

    def finalists(self, paused: Iterable[int]) -> list[int]:
        """Who of `paused` would be given folds if no new setting came from now on, the best first."""
        left, found = self._waiting(paused), list[int]()
        most = math.inf if self.board.complete() else self.rule.most_finalists
        while len(found) < most and (number := self._recall(left, False)) is not None:
            del left[number]
            found.append(number)
        return found

    def exclude(self, number: int) -> None:
        """Keep a setting from winning: it costs too much, or failed."""
        self.board.exclude(number)

    def estimate(self, number: int) -> float:
        """The honest value of a setting: incumbent's mean plus mean paired difference on the folds seen."""
        return self.board.estimate(number)

    def believe(self, values: Mapping[int, float], *, anew: bool = True) -> None:
        """Rank settings by these values from now on: a model's, for whom neighbours speak where folds are few.

        anew: False where all others keep theirs.
        """
        self.board.believe(values, anew=anew)

    @property
    def incumbent(self) -> int | None:
        """The best mean of those with all folds: whom others are compared with."""
        return self.board.incumbent


def _complete_incumbent(board: PairedScores) -> int | None:
    incumbent = board.incumbent
    return incumbent if incumbent is not None and board.is_complete(incumbent) else None


def _nobody_complete() -> Verdict:
    return Verdict("go", "No setting has all folds yet to compare with.")


def _places(board: PairedScores, folds: int, reduction: int) -> int:
    """How many of those with just so many folds may have one more."""
    ranks = board.ranked()
    return max(0, ranks.count(folds) // reduction - ranks.count(folds + 1))


def _rank(board: PairedScores, number: int, folds: int, reduction: int) -> tuple[int, int]:
    """Rank of a setting, from 1, among those with just so many folds, and how many of them may have one more."""
    return board.ranked().place(number) + 1, _places(board, folds, reduction)


def _placed(
    board: PairedScores, paused: Collection[int], reduction: int, levels: Iterable[int]
) -> Iterator[int]:
    """Waiting settings whose rank lets them go on, those with most folds first."""
    for folds in levels:
        waiting = islice(board.ranked().with_folds(folds), _places(board, folds, reduction))
        yield from (number for number in waiting if number in paused)


def _furthest(board: PairedScores, paused: Collection[int]) -> int | None:
    """Rules without pauses still meet settings that a crash cut short: finish the furthest."""
    return min(paused, key=lambda number: (-board.folds(number), number), default=None)


def _finalist(board: PairedScores, paused: Collection[int], finalists: int) -> int | None:
    """The best setting that still lacks folds, as long as it is among the best `finalists` of all."""
    seen = board.ranked().best()
    best = islice(seen, finalists) if board.may_end else seen
    return next((number for number in best if number in paused), None)


def _numbers(found: Comparison) -> dict[str, float]:
    return {
        "difference": found.difference,
        "standard_error": found.standard_error,
        "p_value": found.p_value,
        "folds": float(found.folds),
    }


def _difference(found: Comparison, incumbent: int) -> str:
    folds = "1 fold" if found.folds == 1 else f"{found.folds} folds"
    error = percent(found.standard_error)
    return f"{points(found.difference)} ± {error} Dice points against setting {incumbent} on {folds}"
