"""Scores of trials on every fold, and paired comparisons between them.

Two trials are compared on the images of the folds both have. Masks chosen over one fold are more optimistic than masks
chosen over five, so for both the masks are chosen over the shared folds. The error of the difference has two parts:
images (sampled in whole groups) and fits (the same configuration trained twice differs).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr

from orchestrator.search.race.fit_noise import residual_variance
from orchestrator.search.race.ranks import Ranks

FEW = 1000  # scores of folds up to which the fit noise is estimated again with each; then when there are 1 % more
MORE = 1.01
# Scores of a trial whose masks are chosen over these folds alone.
ChosenBy = Callable[[Sequence[int]], Mapping[int, ArrayLike]]


@dataclass(frozen=True)
class IncumbentComparison:
    """A trial minus the incumbent, on the folds both have."""

    difference: float  # mean over images
    standard_error: float  # of images in groups and of fits
    degrees: float  # of freedom of that error
    folds: int

    @property
    def p_value(self) -> float:
        """Probability that a trial as good as the incumbent scores this low."""
        return float(stdtr(self.degrees, self.difference / self.standard_error))

    def chance(self, gain: float) -> float:
        """Probability that the trial is better than the incumbent by more than `gain`, Dice."""
        return float(stdtr(self.degrees, (self.difference - gain) / self.standard_error))


@dataclass(frozen=True)
class _Scores:
    """Scores of one trial."""

    sums: dict[int, NDArray[np.float64]]  # fold -> sum of Dice over each group
    means: dict[int, float]  # fold -> mean Dice over images


class PairedScores:
    """Scores of all trials so far, as sums over groups of images, which suffice for means and errors."""

    def __init__(self, groups: Sequence[Sequence[str]], fit_noise: float, fit_noise_weight: float) -> None:
        if not groups or not all(len(fold) for fold in groups):
            raise ValueError("expected at least one fold, and images in each")
        numbered = [np.unique(np.asarray(fold, dtype=str), return_inverse=True)[1] for fold in groups]
        self.group_of_image = numbered
        self.sizes = [np.bincount(fold).astype(np.float64) for fold in numbered]
        self.num_images = [float(len(fold)) for fold in numbered]
        each = len(numbered) * np.array(self.num_images) / sum(self.num_images)
        # images of each fold over those of folds in the mean; () where all have as many
        self.fold_weights: tuple[float, ...] = () if np.ptp(each) == 0 else tuple(each.tolist())
        self.prior_noise, self.prior_weight = fit_noise, fit_noise_weight
        self.sums: dict[int, dict[int, NDArray[np.float64]]] = {}
        self.means: dict[int, dict[int, float]] = {}
        self._chosen_by: dict[int, ChosenBy | None] = {}
        # trial -> folds that choose its masks -> scores of these folds
        self._shared: dict[int, dict[tuple[int, ...], _Scores]] = {}
        self._own: dict[int, float] = {}
        self._optimism: dict[tuple[int, ...], dict[int, float]] = {}  # folds -> fold -> Dice
        self.predictions: dict[int, float] = {}
        self.excluded: set[int] = set()  # trials that cannot become the incumbent, whatever their scores
        self.ranks = Ranks()
        self.num_scores = 0  # of folds, over all trials
        self._complete: list[int] = []  # in order
        self._incumbent: int | None = None
        self._is_incumbent_known = False
        self._estimates: dict[int, float] = {}
        self._noise: tuple[float, float] | None = None
        self._noise_of = 0  # scores that it was found from
        # Decisions that hold as long as neither the incumbent nor the fit noise changes; `since` counts these changes.
        self.since = 0
        self.no_chance: dict[int, int] = {}  # trials without a chance -> `since` of that decision

    @property
    def num_folds(self) -> int:
        return len(self.sizes)

    def see(self, number: int, values: Mapping[int, ArrayLike], chosen_by: ChosenBy | None = None) -> None:
        found = {int(fold): np.asarray(scores, dtype=np.float64) for fold, scores in values.items()}
        problems = [problem for fold, scores in found.items() for problem in self._problems(fold, scores)]
        if problems:
            raise ValueError(f"scores of trial {number}: " + "; ".join(problems))
        order = sorted(found)
        own, had = self._scores(found), self.folds(number)
        self.sums[number], self.means[number] = own.sums, own.means
        self._shared[number] = {tuple(order): own}
        self._chosen_by[number] = chosen_by
        self._own[number] = self._mean_over(self.means[number], order) if order else float("nan")
        self.num_scores += len(order) - had
        self._take_in(number, was_complete=had == self.num_folds)

    def _take_in(self, number: int, was_complete: bool) -> None:
        """Update all that depends on the scores of several trials, after those of one trial changed."""
        is_complete = self.is_complete(number)
        if is_complete and not was_complete:
            insort(self._complete, number)
        elif was_complete and not is_complete:
            self._complete.remove(number)
        self._estimates.pop(number, None)
        self.no_chance.pop(number, None)
        if was_complete or is_complete or not self.may_end:
            self._look_for_incumbent()
        elif self.num_scores <= FEW or self.num_scores > MORE * self._noise_of:
            self._forget_noise()
        self._rank(number)

    def _look_for_incumbent(self) -> None:
        """Discard the incumbent and all estimates: the incumbent, or its scores, may have changed."""
        self._is_incumbent_known = False
        self._estimates.clear()
        self._optimism.clear()
        self._forget_noise()
        self.ranks.clear()

    def _forget_noise(self) -> None:
        self._noise = None
        self.since += 1

    def exclude(self, number: int) -> None:
        """Keep a trial from becoming the incumbent."""
        if number not in self.excluded:
            self.excluded.add(number)
            self._look_for_incumbent()

    def _rank(self, number: int) -> None:
        """Place a trial in the ranks, where they are in use."""
        if self.ranks.is_known and self.means.get(number) and number not in self.excluded:
            self.ranks.put(number, self.folds(number), self.worth(number))

    def ranked(self) -> Ranks:
        """The ranks of all trials that are not excluded."""
        if not self.ranks.is_known:
            self.ranks.fill(
                (n, self.folds(n), self.worth(n))
                for n in self.means
                if self.means[n] and n not in self.excluded
            )
        return self.ranks

    def _scores(self, found: Mapping[int, NDArray[np.float64]]) -> _Scores:
        return _Scores(
            {
                f: np.bincount(self.group_of_image[f], weights=found[f]).astype(np.float64)
                for f in sorted(found)
            },
            {f: float(found[f].mean()) for f in sorted(found)},
        )

    def alike(self, number: int, folds: Sequence[int]) -> _Scores:
        """Scores of a trial on these folds, with masks chosen over them alone."""
        chosen_by, known = self._chosen_by[number], self._shared[number]
        if chosen_by is None:
            sums, means = self.sums[number], self.means[number]
            return _Scores({f: sums[f] for f in folds}, {f: means[f] for f in folds})
        if tuple(folds) not in known:
            values = chosen_by(folds)
            known[tuple(folds)] = self._scores({f: np.asarray(values[f], dtype=np.float64) for f in folds})
        return known[tuple(folds)]

    def _problems(self, fold: int, scores: NDArray[np.float64]) -> Iterator[str]:
        if not 0 <= fold < self.num_folds:
            yield f"fold {fold} is none of 0 to {self.num_folds - 1}"
        elif scores.shape != (len(self.group_of_image[fold]),):
            yield f"fold {fold} has {len(self.group_of_image[fold])} images, found shape {scores.shape}"
        elif not (np.isfinite(scores).all() and scores.min() >= 0 and scores.max() <= 1):
            yield f"fold {fold} has scores outside [0, 1]"

    def folds(self, number: int) -> int:
        return len(self.means.get(number, ()))

    def is_complete(self, number: int) -> bool:
        return self.folds(number) == self.num_folds

    def complete(self) -> list[int]:
        return self._complete

    @property
    def may_end(self) -> bool:
        """Whether a trial that is not excluded has all its folds."""
        return any(number not in self.excluded for number in self._complete)

    def mean(self, number: int) -> float:
        """Mean Dice of a trial over the images of its finished folds."""
        return self._own[number]

    def _mean_over(self, means: Mapping[int, float], folds: Sequence[int]) -> float:
        images = self.num_images
        return sum(means[f] * images[f] for f in folds) / sum(images[f] for f in folds)

    @property
    def incumbent(self) -> int | None:
        """The best trial with all folds, by predictions, or by its mean where there are none.

        The highest mean of many is partly luck, so predictions come first. Before any trial has all folds it
        is trial 0, or, without that, the one with most folds; None without scores.
        """
        if not self._is_incumbent_known:
            self._incumbent, self._is_incumbent_known = self._find_incumbent(), True
        return self._incumbent

    def _find_incumbent(self) -> int | None:
        complete = [number for number in self._complete if number not in self.excluded]
        if complete:
            worth = self.predictions if any(number in self.predictions for number in complete) else self._own
            return max(complete, key=lambda number: (worth.get(number, -np.inf), -number))
        seen = self.eligible() or [number for number in sorted(self.means) if self.means[number]]
        if complete := [number for number in seen if self.is_complete(number)]:  # all excluded
            return max(complete, key=lambda number: (self.mean(number), -number))
        if not seen or 0 in seen:
            return 0 if seen else None
        return max(seen, key=lambda number: (self.folds(number), self.mean(number), -number))

    def eligible(self) -> list[int]:
        """Trials with scores that are not excluded."""
        return [number for number in sorted(self.means) if self.means[number] and number not in self.excluded]

    def shared(self, number: int, other: int) -> list[int]:
        return [fold for fold in self.means[number] if fold in self.means[other]]

    def estimate(self, number: int) -> float:
        """Mean of the incumbent plus the paired difference on shared folds; the own mean where none is shared."""
        if number not in self._estimates:
            self._estimates[number] = self._find_estimate(number)
        return self._estimates[number]

    def _find_estimate(self, number: int) -> float:
        incumbent = self.incumbent
        if incumbent is None or number == incumbent or not (shared := self.shared(number, incumbent)):
            return self.mean(number)
        one, other = (
            self._mean_over(self.alike(which, shared).means, shared) for which in (number, incumbent)
        )
        return self.mean(incumbent) + one - other

    def worth(self, number: int) -> float:
        """The value by which a trial is ranked: the prediction of a model of all trials, or its own estimate."""
        return self.predictions[number] if number in self.predictions else self.estimate(number)

    def predict(self, predictions: Mapping[int, float], *, replace_all: bool = True) -> None:
        """Rank by these predictions; replace_all: by these alone, else they replace those of the same trials."""
        if replace_all:
            self.predictions = dict(predictions)
            self.ranks.clear()
        else:
            self.predictions.update(predictions)
        if self._find_incumbent() != self.incumbent:
            self._look_for_incumbent()
        elif not replace_all:
            for number in predictions:
                self._rank(number)

    def compare(self, number: int, other: int) -> IncumbentComparison | None:
        """`number` less `other`, centred within folds so that fit noise is not counted as image noise."""
        shared = self.shared(number, other)
        if not shared:
            return None
        images = np.array([self.num_images[f] for f in shared])
        weights = images / images.sum()
        first, second = self.alike(number, shared), self.alike(other, shared)
        by_fold = np.array([first.means[f] - second.means[f] for f in shared])
        of_images, degrees = self._image_variance(
            {f: first.sums[f] - second.sums[f] for f in shared}, weights
        )
        noise, noise_degrees = self.fit_noise()
        of_fits = 2 * noise**2 * float((weights**2).sum())
        total = of_images + of_fits
        freedom = _satterthwaite([of_images, of_fits], [degrees, noise_degrees])
        return IncumbentComparison(float(weights @ by_fold), float(np.sqrt(total)), freedom, len(shared))

    def _image_variance(
        self, differences: Mapping[int, NDArray[np.float64]], weights: NDArray[np.float64]
    ) -> tuple[float, float]:
        """Cluster-robust variance of the weighted mean difference, and its degrees of freedom.

        A fold of one group does not show how groups differ: it is taken to be as uncertain as the most uncertain other
        fold; without another, as uncertain as differences of Dice can be.
        """
        known = {f: self._fold_variance(f, sums) for f, sums in differences.items() if len(self.sizes[f]) > 1}
        unknown = max(known.values(), default=(1.0, 1.0))
        found = [known.get(fold, unknown) for fold in differences]
        parts = weights**2 * [variance for variance, _ in found]
        return float(parts.sum()), _satterthwaite(parts, [degrees for _, degrees in found])

    def _fold_variance(self, fold: int, sums: NDArray[np.float64]) -> tuple[float, float]:
        """Variance of the mean difference on one fold, and its degrees of freedom."""
        sizes, images = self.sizes[fold], self.num_images[fold]
        residuals = sums - sizes * sums.sum() / images
        effective = images**2 / (sizes**2).sum()
        spread = float((residuals**2).sum()) / images**2
        return spread * effective / max(effective - 1, 0.5), max(effective - 1, 0.5)

    def fit_noise(self) -> tuple[float, float]:
        """SD of one fit's mean Dice from training twice, and its weight in degrees of freedom.

        The prior, shrunk towards an estimate from this study: the residual variance of the fold means after effects of
        trial and fold (fit_noise.py), minus the variance from sampling images. The more of the residual variance
        image sampling explains, the less reliable the estimate, so the more the prior weighs.
        """
        if self._noise is None:
            self._noise, self._noise_of = self._find_fit_noise(), self.num_scores
        return self._noise

    def _find_fit_noise(self) -> tuple[float, float]:
        prior, of_images = self.prior_noise**2, self._image_noise()
        variance, degrees = residual_variance(
            [self.by_fold(number) for number in sorted(self.means) if self.means[number]],
            prior + of_images,
            self.prior_weight,
        )
        if not degrees:
            return self.prior_noise, self.prior_weight
        likely = max(variance - of_images, prior)
        evidence = degrees * (likely / (likely + of_images)) ** 2
        return float(np.sqrt(max(variance - of_images, prior / 4))), self.prior_weight + evidence

    def by_fold(self, number: int) -> dict[int, float]:
        """Fold -> mean Dice of a trial; where it lacks folds, less the optimism of masks chosen on few folds.

        That optimism is the mean over trials with all folds.
        """
        means = self.means.get(number, {})
        if self.is_complete(number) or not self._complete or self._chosen_by.get(number) is None:
            return means
        if (folds := tuple(means)) not in self._optimism:
            self._optimism[folds] = self._find_optimism(folds)
        return {fold: mean - self._optimism[folds][fold] for fold, mean in means.items()}

    def _find_optimism(self, folds: Sequence[int]) -> dict[int, float]:
        """Mean gain of complete trials on these folds where the mask rule is chosen on these folds alone."""
        shown = [self.alike(other, folds).means for other in self._complete]
        return {
            fold: float(
                np.mean(
                    [one[fold] - self.means[n][fold] for n, one in zip(self._complete, shown, strict=True)]
                )
            )
            for fold in folds
        }

    def _image_noise(self) -> float:
        """Variance of a fold mean from trial-image interaction, pooled over trials with several folds."""
        total, cells, shown = 0.0, 0, [number for number in sorted(self.means) if self.folds(number) > 1]
        for fold, (sizes, images) in enumerate(zip(self.sizes, self.num_images, strict=True)):
            sums = [self.sums[number][fold] for number in shown if fold in self.sums[number]]
            if len(sums) > 1 and len(sizes) > 1:
                apart = np.array(sums) - np.mean(sums, axis=0)
                apart -= np.outer(apart.sum(axis=1) / images, sizes)
                effective = images**2 / float((sizes**2).sum())
                spread = float((apart**2).sum()) / (len(sums) - 1) / images**2
                total += len(sums) * spread * effective / max(effective - 1, 0.5)
                cells += len(sums)
        return total / cells if cells else 0.0


def _satterthwaite(variances: ArrayLike, degrees: ArrayLike) -> float:
    """Degrees of freedom of a sum of variances (1946); the sum of their degrees where all are 0."""
    parts, each = np.asarray(variances), np.asarray(degrees)
    total = parts.sum()
    return float(total**2 / (parts**2 / each).sum()) if total else float(each.sum())
