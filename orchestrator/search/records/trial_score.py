"""A trial's folds: the fits that it needs, and the score that follows from their records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from orchestrator.data.splits.resplit import FRESH
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.scoring.pending_cases import scores_under
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.search.records.first_weights import digest
from orchestrator.search.space.space import Configuration
from orchestrator.training.recipe import FitSpec


def fold_specs(configuration: Configuration, plan: SplitPlan) -> tuple[FitSpec, ...]:
    """Specifications of the fits of a trial, one a fold; each fold has its own seed, the same for all trials.

    The seed of the initial weights changes a score by points: one for all folds would lift or lower a trial's
    score as a whole, while the race takes the noise of fits for independent. Over trials, differences count.
    """
    seeds = (configuration.recipe.seed + place * FRESH for place in range(len(plan.folds)))
    return tuple(
        from_seed(_spec(configuration, plan, fold.train, fold.val, fold=str(fold.index)), seed)
        for fold, seed in zip(plan.folds, seeds, strict=True)
    )


def from_seed(spec: FitSpec, seed: int) -> FitSpec:
    """Specification of the same fit from another seed, which may be any whole number from 0."""
    return spec.model_copy(update={"recipe": spec.recipe.model_copy(update={"seed": seed % 2**31})})


def refit_spec(configuration: Configuration, plan: SplitPlan, stop_after: int) -> FitSpec:
    """Specification of a refit: all cases but the hold-out, `stop_after` epochs of the recipe's schedule."""
    everyone = sorted({case_id for fold in plan.folds for case_id in (*fold.train, *fold.val)})
    return _spec(configuration, plan, tuple(everyone), (), fold="refit", stop_after=stop_after)


def _spec(
    configuration: Configuration,
    plan: SplitPlan,
    train: tuple[str, ...],
    val: tuple[str, ...],
    *,
    fold: str,
    stop_after: int | None = None,
) -> FitSpec:
    return FitSpec(
        network=configuration.network,
        network_params=configuration.network_params,
        weights_sha256=digest(configuration.network, configuration.network_params),
        recipe=configuration.recipe,
        datasets=plan.datasets,
        train=train,
        val=val,
        fold=fold,
        stop_after=stop_after,
        fill_holes=configuration.masks.fill_holes,
        min_component_area=configuration.masks.min_component_area,
    )


class ScoredCases(Protocol):
    """Cases that one network, or several together, were scored on."""

    @property
    def case_ids(self) -> tuple[str, ...]: ...
    @property
    def histograms(self) -> np.ndarray:
        """(N, 2, 256), in the order of `case_ids`."""


@dataclass(frozen=True)
class TrialScore:
    """Score of a configuration on images that its networks were not trained on."""

    masks: (
        PostProcess  # how maps become masks: as the configuration says, the rest as validation cases choose
    )
    metrics: dict[str, float]  # mean over all validation images, each counted once, of these masks
    fold_metrics: tuple[dict[str, float], ...]  # mean over each fold's images
    case_ids: tuple[str, ...]  # each validation image once, sorted
    # metric -> (N,) of `case_ids`, mean over repeats; a fold's masks are made as the other folds choose, if
    # `is_cross_fitted`, else as all of them do
    values_of_case: dict[str, np.ndarray]
    is_cross_fitted: bool  # False where one fold has chosen for itself: its scores are a little too good
    fold_means_of_case: tuple[dict[str, float], ...]  # mean of those values over each fold's images

    @property
    def threshold(self) -> float:
        """Threshold of the masks, a multiple of 1/256."""
        return self.masks.threshold

    @property
    def cross_fitted(self) -> dict[str, float] | None:
        """Mean over all validation images, without optimism from the threshold; None if not cross-fitted."""
        return _means(self.values_of_case) if self.is_cross_fitted else None

    @property
    def dice_of_case(self) -> np.ndarray:
        return self.values_of_case["dice"]

    @property
    def fold_dice(self) -> tuple[float, ...]:
        return tuple(fold["dice"] for fold in self.fold_metrics)

    @property
    def fold_dice_std(self) -> float | None:
        """Standard deviation over folds, None of one; no standard error, as folds share training cases."""
        return float(np.std(self.fold_dice, ddof=1)) if len(self.fold_dice) > 1 else None


def score_trial(
    records: Sequence[ScoredCases], configuration: Configuration, metric: str = "dice"
) -> TrialScore:
    """Score a trial by the records of all its folds: pooled over all validation images, their masks all made alike.

    What the configuration leaves open, threshold or reference area, is the best for the mean of `metric`. Where folds
    were drawn several times, every image counts once, with its mean over the repeats.
    """
    histograms = np.concatenate([record.histograms for record in records])
    case_ids = [case_id for record in records for case_id in record.case_ids]
    masks = configuration.masks.best(histograms, metric)
    others = _others_choice(records, configuration, metric)
    honest = others or [masks] * len(records)
    scored = [scores_under(record.histograms, own) for record, own in zip(records, honest, strict=True)]
    unique, place = np.unique(case_ids, return_inverse=True)
    values = {name: np.concatenate([part[name] for part in scored]) for name in scored[0]}
    alike = scores_under(histograms, masks)
    return TrialScore(
        masks=masks,
        metrics=_means(alike if _is_even(place) else by_case(alike, place)),
        fold_metrics=tuple(_means(scores_under(record.histograms, masks)) for record in records),
        case_ids=tuple(map(str, unique)),
        values_of_case=by_case(values, place),
        is_cross_fitted=others is not None,
        fold_means_of_case=tuple(map(_means, scored)),
    )


def masks_of_folds(
    records: Sequence[ScoredCases], configuration: Configuration, metric: str = "dice"
) -> list[PostProcess]:
    """Post-processing of each record in `values_of_case`: as the other folds choose, if it has others."""
    others = _others_choice(records, configuration, metric)
    if others is not None:
        return others
    histograms = np.concatenate([record.histograms for record in records])
    return [configuration.masks.best(histograms, metric)] * len(records)


def by_case(values: dict[str, np.ndarray], place: np.ndarray) -> dict[str, np.ndarray]:
    """Each case once, with its mean over the folds that validated it; `place` (M,): case of each value."""
    counts = np.bincount(place)
    return {name: np.bincount(place, weights=column) / counts for name, column in values.items()}


def _is_even(place: np.ndarray) -> bool:
    """Whether every case was validated equally often."""
    return len(set(np.bincount(place).tolist())) == 1


def _others_choice(
    records: Sequence[ScoredCases], configuration: Configuration, metric: str
) -> list[PostProcess] | None:
    """Post-processing of each record as the other folds of its repeat choose; None if a record has no others.

    It is the same for all records where the configuration leaves no choice.
    """
    if not configuration.masks.is_open:
        return [configuration.masks.best(records[0].histograms, metric)] * len(records)
    chosen: list[PostProcess] = []
    for folds in _repeats(records):
        if len(folds) < 2:
            return None
        fold_of_case = np.repeat(np.arange(len(folds)), [len(record.case_ids) for record in folds])
        histograms = np.concatenate([record.histograms for record in folds])
        best = configuration.masks.best_of_others(histograms, fold_of_case, metric)
        chosen += [best[fold] for fold in range(len(folds))]
    return chosen


def _repeats(records: Sequence[ScoredCases]) -> list[list[ScoredCases]]:
    """Records by repeat, parted where a case comes again: folds of other repeats know this one's cases."""
    repeats: list[list[ScoredCases]] = []
    seen: set[str] = set()
    for record in records:
        if not repeats or not seen.isdisjoint(record.case_ids):
            repeats.append([])
            seen = set()
        repeats[-1].append(record)
        seen.update(record.case_ids)
    return repeats


def _means(scores: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in scores.items()}
