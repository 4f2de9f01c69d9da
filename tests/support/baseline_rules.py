"""Rules of the literature that stop trials between folds, as baselines that the race is compared with.

`search` does not offer them: search_simulation.py measures them, and test_baseline_rules.py holds what they do.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from scipy import stats

from orchestrator.scoring.formatting import percent
from orchestrator.search.race.paired_scores import PairedScores
from orchestrator.search.race.rules import Rule, Verdict, finalist, furthest


@dataclass(frozen=True)
class Forgiving(Rule):
    """Stop below the incumbent's worst fold (Bergman, Purucker and Hutter, arXiv:2405.03389)."""

    least_folds: int = 1

    def judge(self, board: PairedScores, number: int) -> Verdict:
        incumbent = _complete_incumbent(board)
        if incumbent is None:
            return _none_complete()
        mean, worst = board.mean(number), min(board.means[incumbent].values())
        numbers = {"mean": mean, "worst_fold": worst, "folds": float(board.folds(number))}
        stop = mean < worst and board.folds(number) >= self.least_folds
        word = "below" if mean < worst else "not below"
        reason = (
            f"Mean {percent(mean)} over {board.folds(number)} folds is {word} {percent(worst)}, "
            f"trial {incumbent}'s worst."
        )
        return Verdict("stop" if stop else "go", reason, incumbent, numbers)

    def recall(self, board: PairedScores, paused: Collection[int], new_wanted: bool) -> int | None:
        return furthest(board, paused)


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
        return furthest(board, paused)


@dataclass(frozen=True)
class Wilcoxon(Rule):
    """Optuna's WilcoxonPruner over fold means: signed ranks against the best complete trial."""

    p_threshold: float = 0.1
    least_folds: int = 2

    def judge(self, board: PairedScores, number: int) -> Verdict:
        incumbent = _complete_incumbent(board)
        if incumbent is None:
            return _none_complete()
        own = board.means[number]
        best = board.alike(incumbent, list(own)).means
        if len(own) < max(2, self.least_folds):
            return Verdict("go", f"Signed ranks need more folds than {len(own)}.", incumbent)
        differences = np.array([own[fold] - best[fold] for fold in own])
        p_value = float(stats.wilcoxon(differences, alternative="less", zero_method="zsplit").pvalue)
        # As in Optuna: a trial with the better mean so far is kept, whatever its ranks.
        worse = float(np.mean(list(own.values()))) < float(np.mean(list(board.means[incumbent].values())))
        numbers = {"difference": float(differences.mean()), "p_value": p_value, "folds": float(len(own))}
        stop = worse and p_value < self.p_threshold
        sign = "<" if p_value < self.p_threshold else ">="
        end = ", and its mean is worse." if stop else "."
        says = f"Signed ranks of {len(own)} folds against trial {incumbent}: p = {p_value:.2g} {sign} "
        reason = f"{says}{self.p_threshold}{end}"
        return Verdict("stop" if stop else "go", reason, incumbent, numbers)

    def recall(self, board: PairedScores, paused: Collection[int], new_wanted: bool) -> int | None:
        return furthest(board, paused)


@dataclass(frozen=True)
class Screened(Rule):
    """One fold for every trial; once no new one is begun, all folds for the best."""

    finalists: int = 5

    def judge(self, board: PairedScores, number: int) -> Verdict:
        return Verdict("pause", "All are seen on one fold before any is seen on another.")

    def recall(self, board: PairedScores, paused: Collection[int], new_wanted: bool) -> int | None:
        return None if new_wanted else finalist(board, paused, self.finalists)


BASELINE_RULES = {"forgiving": Forgiving, "median": Median, "wilcoxon": Wilcoxon, "screened": Screened}


def _complete_incumbent(board: PairedScores) -> int | None:
    incumbent = board.incumbent
    return incumbent if incumbent is not None and board.is_complete(incumbent) else None


def _none_complete() -> Verdict:
    return Verdict("go", "No trial has all folds yet to compare with.")
