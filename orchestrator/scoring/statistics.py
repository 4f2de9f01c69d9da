"""Intervals and tests for means over images, where images of one patient or video are correlated.

`cluster_interval` of a mean treats groups as the sampling units. tests/benchmarks/interval_coverage.py measures its
coverage, and that of intervals which treat images or folds as independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its part `special`, which takes a quarter of a second, is loaded when first used
from numpy.typing import ArrayLike, NDArray

_EXACT_GROUPS = 18  # enumerating 2**18 sign flips takes a few milliseconds
FEW_GROUPS = 5  # over fewer, an interval of Dice is 0.4 to 0.9 wide (tests/benchmarks/interval_coverage.py)
_TIE = 1e-12  # differences of scores below this are rounding


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference of A and B on the same images."""

    difference: float  # mean of A - B over images
    interval: tuple[float, float]  # with groups as sampling units
    num_cases: int
    num_groups: int


@dataclass(frozen=True)
class Share:
    """Number of images with some property, and number of all images, with the interval of their ratio."""

    num: int
    total: int
    interval: tuple[float, float] | None = None  # 95 %, over groups; None: not known

    @classmethod
    def of(cls, holds: Sequence[bool], groups: Sequence[str]) -> Share:
        """Share of images for which `holds` (N,) is true; groups (N,). No interval without an image."""
        ends = share_interval(np.array(holds, np.int64), np.ones(len(groups), np.int64), groups)
        return cls(sum(holds), len(groups), ends if len(groups) else None)


@dataclass(frozen=True)
class TestResult:
    """A two-sided test; the statistic is above 0 where A is above B."""

    statistic: float
    p_value: float
    num_units: int  # informative units: groups with a difference, or folds

    def p_of(self, difference: float) -> float:
        """The p-value if `difference` has the sign of this test's statistic; 1 otherwise."""
        return self.p_value if self.statistic * difference > 0 else 1.0


def share_interval(hits: ArrayLike, totals: ArrayLike, groups: Sequence[str]) -> tuple[float, float]:
    """The 95 % interval of sum(hits) / sum(totals), integers (N,) of images, groups (N,) as sampling units.

    Interval of `cluster_interval` over the counted objects, such as polyps. Where all hits, or all misses, are in so
    few groups that 2.5 % of resamples of groups or more have none, and so no spread: the exact interval of Clopper and
    Pearson (1934), whose number of trials is the effective number of objects (Korn and Graubard, 1998), at most the
    number of groups with any object. (0, 1) without any object. ValueError: lengths that differ, more hits than totals.
    """
    of_image, all_of_image = np.asarray(hits, np.int64), np.asarray(totals, np.int64)
    if (
        of_image.shape != (len(groups),)
        or all_of_image.shape != (len(groups),)
        or (of_image > all_of_image).any()
    ):
        raise ValueError(
            f"expected hits, totals at least as large, and groups of one length; found {of_image.shape}, "
            f"{all_of_image.shape} and {len(groups)}"
        )
    if not all_of_image.any():
        return 0.0, 1.0
    group_of_image = _numbered(groups)
    hit = np.bincount(group_of_image, weights=of_image).astype(np.float64)
    sizes = np.bincount(group_of_image, weights=all_of_image).astype(np.float64)
    hit, sizes = hit[sizes > 0], sizes[sizes > 0]
    rarest = min(np.count_nonzero(hit), np.count_nonzero(hit < sizes))  # groups
    if (1 - rarest / len(sizes)) ** len(sizes) >= 0.025:
        return _exact_share_interval(hit, sizes)
    each = np.repeat(
        np.tile([1.0, 0.0], len(groups)), np.column_stack([of_image, all_of_image - of_image]).ravel()
    )
    return cluster_interval(each, list(np.repeat(np.asarray(groups, dtype=object), all_of_image)))


def _exact_share_interval(hits: NDArray[np.float64], sizes: NDArray[np.float64]) -> tuple[float, float]:
    """Exact 95 % interval of the share of hits for groups (G,) with their numbers of hits and of objects."""
    share, trials = hits.sum() / sizes.sum(), float(len(sizes))
    if 0 < share < 1 and (error := float(_cluster_error(hits, sizes))) > 0:
        trials = min(trials, share * (1 - share) / error**2)
    found = share * trials
    low = scipy.special.betaincinv(found, trials - found + 1, 0.025) if found > 0 else 0.0
    high = scipy.special.betaincinv(found + 1, trials - found, 0.975) if found < trials else 1.0
    return float(low), float(high)


def rate_interval(counts: ArrayLike, groups: Sequence[str]) -> tuple[float, float]:
    """The 95 % interval of the mean of counts (N,) that are seldom large, such as false positives an image.

    That of `cluster_interval`, cut at 0. Where nothing was counted, no resampling shows any spread: then the exact
    interval of a Poisson rate with the number of groups for the number of images. Groups (N,) are the sampling units.
    """
    of_image = np.asarray(counts, np.float64)
    if not of_image.any():
        num_groups = len(set(groups))
        return 0.0, -math.log(0.025) / num_groups if num_groups else math.inf
    low, high = cluster_interval(of_image, groups)
    return max(low, 0.0), high


def cluster_interval(
    values: NDArray[np.floating],
    groups: Sequence[str],
    *,
    confidence: float = 0.95,
    seed: int = 0,
    num_resamples: int = 2000,
) -> tuple[float, float]:
    """Confidence interval of the mean of `values` (N,), with groups (N,) as sampling units instead of images.

    At either end the wider one of two: the studentized bootstrap over whole groups, which accounts for skewed scores
    (Cameron, Gelbach and Miller, 2008), and Student's t on the jackknife over groups with the effective number of
    groups, (sum of sizes)^2 / sum of squared sizes, for degrees of freedom: one long video among short ones counts for
    little more than itself (Carter, Schnepel and Steigerwald, 2017). Neither alone has enough coverage where groups are
    few or long ones score lower (tests/benchmarks/interval_coverage.py). The mean is a ratio of sums, since groups
    differ in size; no end lies beyond the observed values. With a single group the interval is (-inf, inf), never nan.
    ValueError: no values, lengths that differ, a value that is not finite, a confidence outside (0, 1).
    """
    if len(values) == 0 or len(values) != len(groups) or not 0 < confidence < 1:
        raise ValueError(
            f"expected as many values as groups, at least one, and a confidence in (0, 1); "
            f"found {len(values)} values, {len(groups)} groups, confidence {confidence}"
        )
    _refuse_not_finite(values)
    group_of_value = _numbered(groups)
    sums = np.bincount(group_of_value, weights=values).astype(np.float64)
    sizes = np.bincount(group_of_value).astype(np.float64)
    if len(sums) == 1:
        return -np.inf, np.inf
    mean, tail = sums.sum() / sizes.sum(), (1 - confidence) / 2
    rng = np.random.default_rng(seed)
    low, high = np.quantile(_studentized(sums, sizes, rng, num_resamples), [tail, 1 - tail])
    error, reach = _cluster_error(sums, sizes), _jackknife_reach(sums, sizes, tail)
    ends = min(mean - high * error, mean - reach), max(mean - low * error, mean + reach)
    return float(max(ends[0], np.min(values))), float(min(ends[1], np.max(values)))


def paired_difference(
    values_a: ArrayLike,
    values_b: ArrayLike,
    groups: Sequence[str],
    *,
    confidence: float = 0.95,
    seed: int = 0,
    num_resamples: int = 2000,
) -> PairedDifference:
    """Mean of A - B over the same images, (N,) each, with the interval over groups (N,).

    ValueError: as `cluster_interval`, and arrays of different lengths.
    """
    a, b = _finite(values_a), _finite(values_b)
    if len(a) != len(b):
        raise ValueError(f"expected both on the same images, found {len(a)} and {len(b)} values")
    differences = a - b
    interval = cluster_interval(
        differences, groups, confidence=confidence, seed=seed, num_resamples=num_resamples
    )
    return PairedDifference(float(differences.mean()), interval, len(differences), len(set(map(str, groups))))


def clustered_wilcoxon(differences: ArrayLike, groups: Sequence[str] | None = None) -> TestResult:
    """Wilcoxon's signed-rank test on differences A - B of the same images (N,); images of a group (N,) share a sign.

    Signed ranks are summed by group; under the null hypothesis each group's sum is symmetric about 0 (Larocque, 2005).
    Up to 18 groups the test is exact over all sign flips; beyond that the normal approximation is used. Without groups
    every image is independent: Wilcoxon's own test. Images without a difference are left out, as in his test; if none
    is left p is 1. ValueError: no values, lengths that differ, values that are not finite.
    """
    found = _finite(differences)
    owners = _numbered(range(len(found)) if groups is None else groups)
    if len(owners) != len(found):
        raise ValueError(f"expected a group for each of {len(found)} values, found {len(owners)}")
    differs = np.abs(found) > _TIE
    if not differs.any():
        return TestResult(0.0, 1.0, 0)
    # Rounded, so that equal differences of scores share a rank.
    ranks = _average_ranks(np.abs(found[differs]).round(12)) * np.sign(found[differs])
    sums = np.bincount(_numbered(owners[differs]), weights=ranks).astype(np.float64)
    p_value = _share_of_flips_as_far(sums) if len(sums) <= _EXACT_GROUPS else _normal_p(sums)
    return TestResult(float(sums.sum()), p_value, len(sums))


def corrected_t_test(differences: ArrayLike, test_share: float) -> TestResult:
    """Nadeau and Bengio's corrected resampled t-test over K folds (Machine Learning, 2003).

    differences (K,): A - B of each fold, means over its images. test_share: test cases over training cases, 1/4 in five
    folds; the variance is multiplied by 1/K + test_share, since training sets overlap. R repeats of K folds are R K
    differences (Bouckaert and Frank, 2004). If all differences are equal, p is 0, or 1 if all are 0.
    ValueError: fewer than two folds, a share that is not above 0, values that are not finite.
    """
    found = _finite(differences)
    if len(found) < 2 or not test_share > 0:
        raise ValueError(
            f"expected two folds or more and a test share above 0, found {len(found)} folds, share {test_share}"
        )
    mean, error = float(found.mean()), corrected_error(found, test_share)
    certain = 0.0 if abs(mean) <= _TIE else float(np.copysign(np.inf, mean))
    statistic = mean / error if error > _TIE else certain
    return TestResult(statistic, float(2 * scipy.special.stdtr(len(found) - 1, -abs(statistic))), len(found))


def corrected_error(differences: ArrayLike, test_share: float) -> float:
    """Standard error of the mean of `differences` (K,) over folds, as in `corrected_t_test`."""
    found = _finite(differences)
    return float(np.sqrt((1 / len(found) + test_share) * found.var(ddof=1)))


def clustered_error(values: ArrayLike, groups: Sequence[str]) -> float:
    """Standard error of the mean of `values` (N,) with groups (N,) as sampling units; infinite for a single group.

    From deviations of groups' sums from their share of the total (Cameron and Miller, 2015, with their G / (G - 1)).
    """
    found, owners = _finite(values), _numbered(groups)
    sums = np.bincount(owners, weights=found).astype(np.float64)
    sizes = np.bincount(owners).astype(np.float64)
    return float("inf") if len(sums) == 1 else float(_cluster_error(sums, sizes))


def corrected_interval(
    differences: ArrayLike, test_share: float, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of the mean of `differences` (K,) over folds that matches `corrected_t_test`: over variation of training
    sets and of training itself. ValueError: as that test."""
    mean = float(_finite(differences).mean())
    corrected_t_test(differences, test_share)
    reach = scipy.special.stdtrit(len(_finite(differences)) - 1, (1 + confidence) / 2)
    reach *= corrected_error(differences, test_share)
    return mean - float(reach), mean + float(reach)


def few_groups(num_groups: int) -> str | None:
    """A caveat for an interval over few groups, which spans most of the scale; None for more groups."""
    if num_groups >= FEW_GROUPS:
        return None
    groups = "1 group" if num_groups == 1 else f"{num_groups} groups"
    return (
        f"an interval over {groups} (videos, patients) is hardly informative: {FEW_GROUPS} or more are needed"
    )


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down correction (1979): p (M,) in [0, 1] -> adjusted p (M,), in the same order.

    Rejecting where the adjusted p is at most alpha bounds the family-wise error rate over M comparisons by alpha.
    ValueError: a value that is not a probability.
    """
    found = np.asarray(p_values, dtype=np.float64)
    if not np.all((found >= 0) & (found <= 1)):
        raise ValueError(f"p-values must lie in [0, 1], found {found.tolist()}")
    order = np.argsort(found, kind="stable")
    steps = np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1))
    adjusted = np.empty_like(found)
    adjusted[order] = np.minimum(steps, 1)
    return adjusted


def _studentized(
    sums: NDArray[np.float64], sizes: NDArray[np.float64], rng: np.random.Generator, num_resamples: int
) -> NDArray[np.float64]:
    """Studentized deviations from the mean in bootstrap samples of groups, computed in small blocks.

    A sample of identical groups has no error: its deviation is far larger than any other, or 0.
    """
    mean, block = sums.sum() / sizes.sum(), max(1, 2**20 // len(sums))
    found = []
    for first in range(0, num_resamples, block):
        drawn = rng.integers(len(sums), size=(min(block, num_resamples - first), len(sums)))
        totals, counts = sums[drawn], sizes[drawn]
        off = totals.sum(axis=1) / counts.sum(axis=1) - mean
        error = np.maximum(_cluster_error(totals, counts), _TIE)
        found.append(np.where(np.abs(off) > _TIE, off / error, 0.0))
    return np.concatenate(found)


def _cluster_error(sums: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard error of the mean for groups (..., G): from deviations of their sums from their share of the total, with
    G / (G - 1) (Cameron and Miller, 2015)."""
    num_groups, total = sums.shape[-1], sizes.sum(axis=-1, keepdims=True)
    off = sums - sizes * sums.sum(axis=-1, keepdims=True) / total
    result: NDArray[np.float64] = (
        np.sqrt(num_groups / (num_groups - 1) * (off**2).sum(axis=-1)) / total[..., 0]
    )
    return result


def _jackknife_reach(sums: NDArray[np.float64], sizes: NDArray[np.float64], tail: float) -> float:
    """Student's t quantile times the jackknife error over groups."""
    without = (sums.sum() - sums) / (sizes.sum() - sizes)
    error = np.sqrt((len(sums) - 1) / len(sums) * ((without - sums.sum() / sizes.sum()) ** 2).sum())
    effective = sizes.sum() ** 2 / (sizes**2).sum()
    return float(-scipy.special.stdtrit(max(effective - 1, 0.5), tail) * error)


def _share_of_flips_as_far(sums: NDArray[np.float64]) -> float:
    """Share of all 2^G sign flips whose total is at least as far from 0 as the observed one."""
    totals = np.zeros(1)
    for one in np.abs(sums):
        totals = np.concatenate([totals + one, totals - one])
    return float(np.mean(np.abs(totals) >= abs(sums.sum()) - 1e-9))


def _normal_p(sums: NDArray[np.float64]) -> float:
    spread = np.sqrt((sums**2).sum())
    return float(2 * scipy.special.ndtr(-abs(sums.sum()) / spread)) if spread else 1.0


def _average_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """values (N,) -> ranks (N,), the lowest 1; equal values share the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place])


def _numbered(groups: ArrayLike | Sequence[str] | range) -> NDArray[np.intp]:
    """Groups (N,) -> consecutive integers (N,) from 0."""
    return np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or len(found) == 0:
        raise ValueError(f"expected values (N,), at least one, found shape {found.shape}")
    _refuse_not_finite(found)
    return found


def _refuse_not_finite(values: NDArray[np.floating]) -> None:
    if not np.all(np.isfinite(values)):
        raise ValueError(f"{int((~np.isfinite(values)).sum())} of {len(values)} values are not finite")
