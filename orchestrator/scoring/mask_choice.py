"""Choice of a trial's post-processing: partly fixed by its configuration, the rest optimised on validation cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.scoring.pending_cases import ThresholdAndArea, best_rule, cross_fitted_rules
from orchestrator.scoring.postprocess import PostProcess

NUM_AREAS = 33  # values of the reference area in a sweep, ends included


@dataclass(frozen=True)
class MaskChoice:
    """A `PostProcess` with an optional range, instead of a value, for threshold and reference area."""

    threshold: float | None = None  # a multiple of 1/256; None: the best in `thresholds`
    thresholds: tuple[float, float] = (0.05, 0.95)
    reference_area: float | None = 0.0  # share of the frame; None: the best in `areas`
    areas: tuple[float, float] = (0.0, 0.0)
    white_level: float | None = None
    fill_holes: bool = False
    min_component_area: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether anything is optimised on validation cases."""
        return self.threshold is None or self.reference_area is None

    def best(self, histograms: NDArray[np.integer], metric: str = "dice") -> PostProcess:
        """The post-processing with the highest mean score over the cases of these histograms (N, 2, 256)."""
        rule, _ = best_rule(
            histograms, self._areas(), *self._thresholds(), metric=metric, white_level=self.white_level
        )
        return self._with(rule)

    def best_of_others(
        self, histograms: NDArray[np.integer], fold_of_case: NDArray[np.integer], metric: str = "dice"
    ) -> dict[int, PostProcess]:
        """For each fold the rule that is best on all other folds. ValueError for fewer than two folds."""
        rules = cross_fitted_rules(
            histograms,
            fold_of_case,
            self._areas(),
            *self._thresholds(),
            metric=metric,
            white_level=self.white_level,
        )
        return {fold: self._with(rule) for fold, rule in rules.items()}

    def _thresholds(self) -> tuple[float, float]:
        return self.thresholds if self.threshold is None else (self.threshold, self.threshold)

    def _areas(self) -> list[float]:
        if self.reference_area is not None:
            return [self.reference_area]
        return [float(area) for area in np.linspace(*self.areas, NUM_AREAS)]

    def _with(self, rule: ThresholdAndArea) -> PostProcess:
        return PostProcess(
            threshold=rule.threshold,
            white_level=self.white_level,
            reference_area=rule.reference_area,
            fill_holes=self.fill_holes,
            min_component_area=self.min_component_area,
        )
