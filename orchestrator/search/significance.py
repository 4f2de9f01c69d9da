"""Significance of differences between trials, which are compared on the same validation images.

Two sources of chance are looked at: images (whole groups are drawn together) and training sets (Nadeau and Bengio's
test, where there are two folds or more). Trials count as different where both tests say so, and both of the one whose
mean is higher; Holm's correction covers all comparisons that are made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.scoring.statistics import (
    clustered_error,
    clustered_wilcoxon,
    corrected_error,
    corrected_interval,
    corrected_t_test,
    holm,
    paired_difference,
)
from orchestrator.search.records.trial_score import TrialScore

SURE = 0.05


@dataclass(frozen=True)
class ComparedTrial:
    """A trial with all its folds."""

    number: int
    values: NDArray[np.float64]  # (N,) score of every validation image, the same images for all
    fold_means: tuple[float, ...]


@dataclass(frozen=True)
class PairedTest:
    """Difference of a trial to another one, on the same images, with its tests."""

    trial: int
    other: int
    difference: float  # of means over images
    interval: tuple[
        float, float
    ]  # 95 %, over groups, and over folds where there are two or more: the wider ends
    standard_error: float  # the larger one of images and of folds
    p_images: float  # clustered Wilcoxon signed-rank
    p_folds: float | None  # Nadeau-Bengio; None of one fold
    p_value: float  # the larger of the two, after Holm's correction

    @property
    def is_sure(self) -> bool:
        """Whether `trial` is significantly better than `other`."""
        return self.difference > 0 and self.p_value < SURE

    @property
    def is_worse(self) -> bool:
        """Whether `other` is significantly better, by a score that the winner was not chosen by."""
        return self.difference < 0 and self.p_value < SURE

    def as_dict(self) -> dict[str, Any]:
        """The test as plain values; an interval or an error that is not finite is None."""
        known = all(map(math.isfinite, self.interval))
        error = self.standard_error if math.isfinite(self.standard_error) else None
        return asdict(self) | {"interval": list(self.interval) if known else None, "standard_error": error}


def compared_trial(number: int, score: TrialScore, metric: str = "dice") -> ComparedTrial:
    """A trial by its cross-fitted scores, of images and of folds."""
    by_fold = tuple(fold[metric] for fold in score.fold_means_of_case)
    return ComparedTrial(number, score.values_of_case[metric], by_fold)


def share_of_test(plan: SplitPlan) -> float | None:
    """Ratio of validated to training cases, mean over folds, for a test over folds; None of one fold."""
    if len(plan.folds) == 1:
        return None
    return float(np.mean([len(fold.val) / len(fold.train) for fold in plan.folds]))


def all_against(
    winner: ComparedTrial, others: Sequence[ComparedTrial], groups: Sequence[str], test_share: float | None
) -> list[PairedTest]:
    """Tests of the winner against each other trial; groups (N,) of images, test_share None of one fold."""
    tested = [_tested(winner, other, groups, test_share) for other in others]
    corrected = holm([larger(*ps) for ps in tested])
    return [
        _versus(winner, other, groups, test_share, ps, float(p))
        for other, ps, p in zip(others, tested, corrected, strict=True)
    ]


def gain_over(
    default: ComparedTrial,
    winner: ComparedTrial,
    others: Sequence[ComparedTrial],
    groups: Sequence[str],
    test_share: float | None,
    num_stopped: int = 0,
) -> PairedTest:
    """Test of the winner against the default. It was picked from all, so Holm covers all against the default.

    Trials that were stopped before they had all folds count with a p-value of 1.
    """
    tested = [_tested(one, default, groups, test_share) for one in (winner, *others)]
    corrected = holm([*(larger(*ps) for ps in tested), *[1.0] * num_stopped])
    return _versus(winner, default, groups, test_share, tested[0], float(corrected[0]))


def _tested(
    one: ComparedTrial, other: ComparedTrial, groups: Sequence[str], test_share: float | None
) -> tuple[float, float | None]:
    """p-values of the difference of means, by images and by folds."""
    by_fold = np.subtract(one.fold_means, other.fold_means)
    return both_tests(one.values - other.values, groups, by_fold, test_share)


def _versus(
    one: ComparedTrial,
    other: ComparedTrial,
    groups: Sequence[str],
    test_share: float | None,
    tested: tuple[float, float | None],
    p_value: float,
) -> PairedTest:
    values, by_fold = one.values - other.values, np.subtract(one.fold_means, other.fold_means)
    difference, ends = difference_interval(values, groups, by_fold, test_share)
    error = clustered_error(values, groups)
    if test_share is not None:
        error = max(error, corrected_error(by_fold, test_share))
    return PairedTest(one.number, other.number, difference, ends, error, *tested, p_value)


def both_tests(
    values: NDArray[np.float64], groups: Sequence[str], by_fold: ArrayLike, test_share: float | None
) -> tuple[float, float | None]:
    """p-values of differences (N,) of images in groups (N,), and (K,) of folds, None if `test_share` is None.

    Images alone do not know that training again would move every score of a fold at once: with one point of such noise
    a fold, they call one of two equal systems better in 20 % of studies (tests/benchmarks/compare_errors.py).
    """
    difference = float(values.mean())
    images = clustered_wilcoxon(values, groups).p_of(difference)
    return images, None if test_share is None else corrected_t_test(by_fold, test_share).p_of(difference)


def difference_interval(
    values: NDArray[np.float64],
    groups: Sequence[str],
    by_fold: ArrayLike,
    test_share: float | None,
    confidence: float = 0.95,
) -> tuple[float, tuple[float, float]]:
    """Mean of differences (N,) and its interval: the wider ends of that over groups and of that over folds."""
    found = paired_difference(values, np.zeros(len(values)), groups, confidence=confidence)
    low, high = found.interval
    if test_share is not None:
        below, above = corrected_interval(by_fold, test_share, confidence=confidence)
        reach = (above - below) / 2
        low, high = min(low, found.difference - reach), max(high, found.difference + reach)
    return found.difference, (low, high)


def false_claim(
    values: NDArray[np.float64], groups: Sequence[str], by_fold: ArrayLike, test_share: float | None
) -> float | None:
    """Probability, given differences (N,) of images in groups (N,), and (K,) of folds, that the system of the higher
    mean is not the better one: P(false claim) in the manner of Christodoulou et al. (2025, arXiv 2505.04720).

    Under a flat prior the true difference follows Student's t around the observed one; its error is that over groups,
    and, where `test_share` is known, that over folds: the larger probability of the two. None of one group.
    """
    error, num_groups = clustered_error(values, groups), len(set(groups))
    if not math.isfinite(error):
        return None
    found = [_tail(float(values.mean()), error, num_groups - 1)]
    if test_share is not None:
        folds = np.asarray(by_fold, dtype=np.float64)
        found.append(_tail(float(folds.mean()), corrected_error(folds, test_share), len(folds) - 1))
        if folds.mean() * values.mean() <= 0:  # the folds name the other system
            found.append(0.5)
    return max(found)


def _tail(difference: float, error: float, freedom: int) -> float:
    if error == 0:
        return 0.5 if difference == 0 else 0.0
    return float(scipy.special.stdtr(freedom, -abs(difference) / error))


def larger(p_images: float, p_folds: float | None) -> float:
    return p_images if p_folds is None else max(p_images, p_folds)
