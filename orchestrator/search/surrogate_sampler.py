"""The fold-aware Gaussian process as a sampler for Optuna.

A trial says in its user attribute `folds` on how many folds its value rests; without it, on one. Parameters that some
trials lack (conditional ones) are drawn at random, as Optuna's own Gaussian process does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import intersection_search_space
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from orchestrator.search.box import Array, Box
from orchestrator.search.surrogate import Surrogate, suggest

FOLDS = "folds"  # user attribute of a trial


class SurrogateSampler(BaseSampler):
    """Suggests where improvement is expected; trials in flight count as seen at what is believed of them."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return _shared_space(study.get_trials(deepcopy=False))

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """{} for random draws: in the beginning, while twice as many trials as parameters are not there."""
        others = [one for one in study.get_trials(deepcopy=False) if one.number != trial.number]
        finished = [one for one in others if one.state == TrialState.COMPLETE]
        if not search_space or len(finished) < max(2, 2 * len(search_space)):
            return {}
        box = Box(search_space)
        points, values, folds = _seen(box, finished)
        model = Surrogate.fit(points, values, folds)
        flying = [
            one
            for one in others
            if one.state == TrialState.RUNNING and search_space.keys() <= one.params.keys()
        ]
        if flying:
            more = np.array([box.point(one.params) for one in flying])
            values = np.concatenate([values, model.predict(more)[0]])
            points = np.concatenate([points, more])
            model = Surrogate.fit(points, values, np.concatenate([folds, np.ones(len(flying))]))
        return box.params(suggest(model, self.rng, box))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.random.sample_independent(study, trial, param_name, param_distribution)


def believed(trials: Sequence[FrozenTrial]) -> dict[int, float]:
    """Trial number -> what the model believes of each finished trial, for `Race.believe`; {} while there are few."""
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    space = _shared_space(finished)
    if not space or len(finished) <= 3 * len(space):
        return {}
    points, values, folds = _seen(Box(space), finished)
    means, _ = Surrogate.fit(points, values, folds).predict(points)
    return {trial.number: float(mean) for trial, mean in zip(finished, means, strict=True)}


def _shared_space(trials: Sequence[FrozenTrial]) -> dict[str, BaseDistribution]:
    space = intersection_search_space(list(trials))
    return {name: found for name, found in space.items() if not found.single()}


def _seen(box: Box, finished: Sequence[FrozenTrial]) -> tuple[Array, Array, Array]:
    points = np.array([box.point(trial.params) for trial in finished])
    values = np.array([trial.value for trial in finished], dtype=np.float64)
    folds = np.array([float(trial.user_attrs.get(FOLDS, 1)) for trial in finished])
    return points, values, folds
