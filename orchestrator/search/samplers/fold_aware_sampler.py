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

from orchestrator.search.samplers.encoding import Array, SpaceEncoding
from orchestrator.search.samplers.gaussian_process import suggest
from orchestrator.search.samplers.inducing_points import Model, fitted, with_flying

FOLDS = "folds"  # user attribute of a trial


class FoldAwareSampler(BaseSampler):
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
        box = SpaceEncoding(search_space)
        seen = _seen(box, finished)
        flying = [
            one
            for one in others
            if one.state == TrialState.RUNNING and search_space.keys() <= one.params.keys()
        ]
        points = np.array([box.point(one.params) for one in flying])
        model = with_flying(*seen, points) if flying else fitted(*seen)
        return box.params(suggest(model, self.rng, box))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.random.sample_independent(study, trial, param_name, param_distribution)


def posterior_means(trials: Sequence[FrozenTrial]) -> dict[int, float]:
    """Trial number -> what the model believes of each finished trial, for `Race.predict`; {} while there are few."""
    found = PosteriorMeans(trials)
    return dict(zip((trial.number for trial in found.finished), found.all(), strict=False))


class PosteriorMeans:
    """What the model of finished trials believes, and of a trial of which more is known since."""

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        """trials: in order of their numbers. None of them is believed while there are few."""
        self.finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        space = _shared_space(self.finished)
        self.model: Model | None = None
        if space and len(self.finished) > 3 * len(space):
            self.box = SpaceEncoding(space)
            self.seen = _seen(self.box, self.finished)
            self.model = fitted(*self.seen)

    def all(self) -> list[float]:
        """Of every finished trial, in order; none while there are few."""
        return [] if self.model is None else self.model.predict(self.seen[0])[0].tolist()

    def of(self, trial: FrozenTrial, before: int | None) -> float:
        """Of a trial of which more is known than the model knows; before: its place among the finished ones of then."""
        assert self.model is not None
        mean, sd = (float(part[0]) for part in self.model.predict(self.box.point(trial.params)[None]))
        value, folds = float(trial.value or 0.0), float(trial.user_attrs.get(FOLDS, 1))
        known = 0.0 if before is None else self.seen[2][before]
        if before is not None and folds > known:
            value = (folds * value - known * self.seen[1][before]) / (folds - known)
        noise = self.model.unit**2 * self.model.noise / max(1.0, folds - known)
        return mean + sd**2 / (sd**2 + noise) * (value - mean)


def _shared_space(trials: Sequence[FrozenTrial]) -> dict[str, BaseDistribution]:
    """Parameters that all finished trials have; most share one dict of them, which is looked at once."""
    finished = {id(one.distributions): one for one in trials if one.state == TrialState.COMPLETE}
    space = intersection_search_space(list(finished.values()))
    return {name: found for name, found in space.items() if not found.single()}


def _seen(box: SpaceEncoding, finished: Sequence[FrozenTrial]) -> tuple[Array, Array, Array]:
    points = box.points([trial.params for trial in finished])
    values = np.array([trial.value for trial in finished], dtype=np.float64)
    folds = np.array([float(trial.user_attrs.get(FOLDS, 1)) for trial in finished])
    return points, values, folds
