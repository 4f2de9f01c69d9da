"""CMA-ES as a sampler without memory: at every draw it is led anew through the generations that were seen.

The search distribution begins around the best setting that it did not suggest itself: the paper's, or one that an
earlier study recommends. A trial carries the number of its generation, an integer; so nothing has to be unpickled, as
in Optuna's own CmaEsSampler, scores may change as folds come in, and a study that was killed goes on as it was.
Categorical parameters, and those that some trials lack, are drawn at random, as Optuna does.

Hansen, The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
from cmaes import CMA
from numpy.typing import NDArray
from optuna._transform import _SearchSpaceTransform
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import intersection_search_space
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

GENERATION = "cmaes:generation"  # system attribute of a trial
SIGMA = 0.2  # SD of the first generation, as a share of each parameter's range


class CmaSampler(BaseSampler):
    """Maximises the value of the trials of one study."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        shared = intersection_search_space(study.get_trials(deepcopy=False))
        return {
            name: found
            for name, found in shared.items()
            if not (found.single() or isinstance(found, CategoricalDistribution))
        }

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        strangers = [one for one in finished if GENERATION not in one.system_attrs]
        if not search_space or not strangers:
            return {}
        transform = _SearchSpaceTransform(search_space, transform_0_1=True)
        begin = max(strangers, key=lambda one: (_value(one), -one.number))
        optimizer = CMA(
            mean=np.clip(_point(transform, begin), *transform.bounds.T),
            sigma=SIGMA,
            bounds=transform.bounds,
            seed=self.seed,
            n_max_resampling=10 * len(transform.bounds),
        )
        generation = _lead(optimizer, transform, finished)
        study._storage.set_trial_system_attr(trial._trial_id, GENERATION, generation)
        return transform.untransform(optimizer.ask())

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.random.sample_independent(study, trial, param_name, param_distribution)


def _lead(optimizer: CMA, transform: _SearchSpaceTransform, finished: Sequence[FrozenTrial]) -> int:
    """Tell every generation that is whole, and return the number of the one that is not."""
    for generation in count():
        own = [one for one in finished if one.system_attrs.get(GENERATION) == generation]
        if len(own) < optimizer.population_size:
            return generation
        whole = own[: optimizer.population_size]
        optimizer.tell([(_point(transform, one), -_value(one)) for one in whole])
    raise AssertionError("never reached")


def _point(transform: _SearchSpaceTransform, trial: FrozenTrial) -> NDArray[np.float64]:
    space: Mapping[str, BaseDistribution] = transform._search_space
    return transform.transform({name: trial.params[name] for name in space})


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value
