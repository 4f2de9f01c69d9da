"""Two systems on the same images: which is better, by how much, and how sure.

Validation images are compared at cross-fitted thresholds; hold-out and unseen images where the champions of both were
scored. Only pairs count: an image that one of the two never scored has no part in it.

On the same folds, one is called better where the tests over images and over folds both say so, as `best` does;
intervals know both sources of chance, and hold for all rows together. Elsewhere (hold-out and unseen images, other
folds) nothing says what training again would change, and a verdict is on these networks, not on the methods.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orchestrator.common.errors import BadStudy
from orchestrator.data.splits.assign import tie
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.scoring.pending_cases import scores_under
from orchestrator.scoring.statistics import few_groups, holm
from orchestrator.search.significance import (
    SURE,
    both_tests,
    difference_interval,
    false_claim,
    larger,
    share_of_test,
)
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.search.store.trials import StudyTrial
from orchestrator.selection.reevaluation import named

VALIDATION = "validation"


@dataclass(frozen=True)
class ComparedSystem:
    """One trial of a study, and its score on every image that may be compared."""

    name: str  # "STUDY:TRIAL"
    plan: SplitPlan
    scores: Mapping[str, Mapping[str, float]]  # where -> case id -> score in [0, 1]
    fold_means: tuple[float, ...]  # over each fold's validation images, as `scores` has them
    group_of: Mapping[str, str]


@dataclass(frozen=True)
class Comparison:
    """Comparison of two systems on the same images; a positive difference favors `other`."""

    where: str  # "validation", "hold-out test", or an unseen dataset's name
    reference: str
    other: str
    num_cases: int
    num_groups: int
    reference_mean: float
    other_mean: float
    difference: float
    interval: tuple[float, float]  # over groups, and over folds where they are the same; the wider ends
    p_images: float  # Wilcoxon signed-rank over groups, after Holm's correction
    p_folds: float | None  # Nadeau-Bengio over folds, after Holm's; None where there are no common folds
    p_value: float  # the larger of the two, after Holm's correction over all rows
    confidence: float = 0.95  # of this interval; all of them hold at once in 95 % (Bonferroni)
    p_false_claim: float | None = (
        None  # that the one with the higher mean is not better; None where that is unknown
    )

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves zero out, and every test that there is agrees at 5 %."""
        low, high = self.interval
        return (low > 0 or high < 0) and self.p_value < SURE

    @property
    def is_of_methods(self) -> bool:
        """Whether chance of training is included; else the row is on these networks alone."""
        return self.p_folds is not None


@dataclass(frozen=True)
class NetworkScores:
    """Scores of two networks on the same N images of one place."""

    reference: NDArray[np.float64]  # (N,) in [0, 1]
    other: NDArray[np.float64]  # (N,) in [0, 1]
    groups: Sequence[str]  # (N,)


def compared_system(snapshot: StudySnapshot, number: str, metric: str) -> ComparedSystem:
    """The trial of that number, or, where it is empty, the study's best by `metric`. Raises `BadStudy`."""
    trial = _trial(snapshot, number, metric)
    score = snapshot.score(trial, metric)
    if score is None:
        where = f"{snapshot.name}:{number}" if number else snapshot.name
        raise BadStudy(
            where, f"has {len(trial.records)} of {trial.num_folds} folds finished; compare finished trials"
        )
    scores = {VALIDATION: dict(zip(score.case_ids, map(float, score.values_of_case[metric]), strict=True))}
    champion = snapshot.champion
    if champion is not None and champion.trial == trial.number:
        for where, case_ids in snapshot.outside_cases.items():
            values = scores_under(snapshot.scores(champion.fit_id, case_ids).histograms, score.masks)[metric]
            scores["hold-out test" if where == "test" else where] = dict(
                zip(case_ids, map(float, values), strict=True)
            )
    return ComparedSystem(
        name=f"{snapshot.name}:{trial.number}",
        plan=snapshot.plan,
        scores=scores,
        fold_means=tuple(fold[metric] for fold in score.fold_means_of_case),
        group_of=snapshot.group_of_case,
    )


def compare(systems: Sequence[ComparedSystem]) -> list[Comparison]:
    """Every system against the first, wherever both were scored on the same images.

    Raises `BadStudy` if there are fewer than two, one is named twice, or two have no image in common.
    """
    names = [one.name for one in systems]
    if len(names) < 2 or len(set(names)) < len(names):
        raise BadStudy(
            "compare", f"expected two or more different systems, found {', '.join(names) or 'none'}"
        )
    reference, *others = systems
    pairs = [(other, where) for other in others for where in _common(reference, other)]
    level = 1 - SURE / len(pairs)
    rows = _corrected([_row(reference, other, where, level) for other, where in pairs])
    places = list(dict.fromkeys(row.where for row in rows))
    return sorted(rows, key=lambda row: places.index(row.where))


def compare_networks(reference: str, other: str, scores: Mapping[str, NetworkScores]) -> list[Comparison]:
    """One network against another, both named, on the same images of every place; `scores`: place -> theirs."""
    level = 1 - SURE / len(scores)
    return _corrected(
        [
            _paired(where, (reference, found.reference), (other, found.other), found.groups, level)
            for where, found in scores.items()
        ]
    )


def verdict(row: Comparison, metric: str) -> str:
    """One line in words."""
    points, (low, high) = 100 * row.difference, (100 * end for end in row.interval)
    level, few = f"{100 * row.confidence:.4g} %", few_groups(row.num_groups)
    end = f"; {few}" if few else ""
    if not row.is_sure:
        interval = f"{level} {low:+.1f} to {high:+.1f}" if math.isfinite(high - low) else "interval unknown"
        return (
            f"{row.where}: {row.other} and {row.reference} do not differ significantly by {metric} "
            f"({points:+.1f} points, {interval}, p {row.p_value:.2g}){end}"
        )
    better, worse = (row.other, row.reference) if points > 0 else (row.reference, row.other)
    low, high = sorted((abs(low), abs(high)))
    numbers = (
        f"by {abs(points):.1f} points of {metric} ({level} {low:.1f} to {high:.1f}, p {row.p_value:.2g})"
    )
    if row.is_of_methods:
        return f"{row.where}: {better} is better than {worse} {numbers}{end}"
    return (
        f"{row.where}: {better} scores higher than {worse} {numbers}: this is about these networks, not the methods, "
        f"as what training again would change is not known here{end}"
    )


def _trial(snapshot: StudySnapshot, number: str, metric: str) -> StudyTrial:
    if not number:
        standing = snapshot.ranked(metric)
        if not standing:
            raise BadStudy(snapshot.name, "has no finished trial yet; run `orchestrator search` on")
        return named(snapshot, standing, metric)[0]
    known = {str(one): one for one in snapshot.trial_numbers}
    if number not in known:
        raise BadStudy(snapshot.name, f"has no trial {number!r}; known: {', '.join(known)}")
    return snapshot.read_trials([known[number]])[0]


def _common(one: ComparedSystem, other: ComparedSystem) -> list[str]:
    places = [where for where in one.scores if one.scores[where].keys() & other.scores.get(where, {}).keys()]
    if not places:
        raise BadStudy("compare", f"{one.name} and {other.name} were not scored on any image in common")
    return places


def _row(reference: ComparedSystem, other: ComparedSystem, where: str, level: float) -> Comparison:
    case_ids = sorted(reference.scores[where].keys() & other.scores[where].keys())
    group_of = _joined(reference, other, case_ids)
    share = _share_of_test(reference, other) if where == VALIDATION else None
    return _paired(
        where,
        (reference.name, np.array([reference.scores[where][id] for id in case_ids])),
        (other.name, np.array([other.scores[where][id] for id in case_ids])),
        [group_of[id] for id in case_ids],
        level,
        by_fold=np.subtract(other.fold_means, reference.fold_means) if share is not None else (),
        share=share,
    )


def _paired(
    where: str,
    reference: tuple[str, NDArray[np.float64]],
    other: tuple[str, NDArray[np.float64]],
    groups: Sequence[str],
    level: float,
    by_fold: ArrayLike = (),
    share: float | None = None,
) -> Comparison:
    """Two names, each with the scores (N,) of the same images, as a row that is not yet corrected for other rows."""
    (reference_name, ours), (other_name, theirs) = reference, other
    difference, interval = difference_interval(theirs - ours, groups, by_fold, share, level)
    p_images, p_folds = both_tests(theirs - ours, groups, by_fold, share)
    return Comparison(
        where=where,
        reference=reference_name,
        other=other_name,
        num_cases=len(groups),
        num_groups=len(set(groups)),
        reference_mean=float(ours.mean()),
        other_mean=float(theirs.mean()),
        difference=difference,
        interval=interval,
        p_images=p_images,
        p_folds=p_folds,
        p_value=larger(p_images, p_folds),
        confidence=level,
        p_false_claim=false_claim(theirs - ours, groups, by_fold, share),
    )


def _joined(reference: ComparedSystem, other: ComparedSystem, case_ids: Sequence[str]) -> dict[str, str]:
    """Case id -> group: cases that either study keeps together; their near-duplicates may differ."""
    first: dict[str, str] = {}
    pairs = [(first.setdefault(other.group_of[id], id), id) for id in case_ids]
    return tie({id: reference.group_of[id] for id in case_ids}, pairs)


def _share_of_test(reference: ComparedSystem, other: ComparedSystem) -> float | None:
    """The share of test images that the test over folds needs, if both were cross-validated on the very same ones."""
    is_same = reference.plan.digest == other.plan.digest
    return share_of_test(reference.plan) if is_same else None


def _corrected(rows: Sequence[Comparison]) -> list[Comparison]:
    """The rows, their p-values corrected for how many there are."""
    images, both = holm([row.p_images for row in rows]), holm([row.p_value for row in rows])
    folds = iter(holm([row.p_folds for row in rows if row.p_folds is not None]))
    return [
        replace(
            row,
            p_images=float(p),
            p_folds=None if row.p_folds is None else float(next(folds)),
            p_value=float(larger_p),
        )
        for row, p, larger_p in zip(rows, images, both, strict=True)
    ]
