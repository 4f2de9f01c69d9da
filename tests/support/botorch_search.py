"""BoTorch's noisy expected improvement, its noise known from folds (Balandat et al., arXiv:1910.06403); needs botorch.

`suggest` is for simulated studies, `BoTorchSampler` for real ones, whose configurations have all folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from orchestrator.search.samplers.encoding import SpaceEncoding
from orchestrator.search.samplers.fold_aware_sampler import FoldAwareSampler
from orchestrator.search.samplers.past_trials import BY_FOLD

Array = NDArray[np.float64]


def model_of(points: Array, values: Array, by_fold: Array) -> Any:
    """BoTorch's Gaussian process of points (N, D) with values (N,), scores by fold (N, F), none missing.

    The noise of a value is what trials differ by from fold to fold, beyond what folds and trials differ in the mean.
    """
    import torch
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from gpytorch.mlls import ExactMarginalLogLikelihood

    apart = by_fold - by_fold.mean(axis=0)
    apart -= apart.mean(axis=1, keepdims=True)
    num_trials, num_folds = apart.shape
    noise = (apart**2).sum() / ((num_trials - 1) * (num_folds - 1)) / num_folds
    targets = torch.tensor(values[:, None], dtype=torch.float64)
    model = SingleTaskGP(
        torch.tensor(points, dtype=torch.float64), targets, torch.full_like(targets, float(noise))
    )
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    return model


def suggest(
    points: Array, values: Array, by_fold: Array, seed: int, choices: Sequence[dict[int, float]] = ()
) -> Array:
    """Point (D,) of the unit cube with the highest expected improvement, times the probability that it works.

    by_fold: rows of nan are those of trials that have failed. choices: coordinates that only have certain values: all
    combinations of them.
    """
    import torch
    from botorch.acquisition.logei import qLogNoisyExpectedImprovement
    from botorch.acquisition.objective import LinearMCObjective
    from botorch.models import ModelListGP
    from botorch.optim import optimize_acqf, optimize_acqf_mixed

    torch.manual_seed(seed % 2**32)
    worked = np.isfinite(by_fold).all(axis=1)
    model = model_of(points[worked], values[worked], by_fold[worked])
    known, more = torch.tensor(points[worked], dtype=torch.float64), {}
    if not worked.all():
        model = ModelListGP(model, _works(points, worked))
        more["objective"] = LinearMCObjective(torch.tensor([1.0, 0.0], dtype=torch.float64))
        more["constraints"] = [lambda outputs: -outputs[..., 1]]
    gain = qLogNoisyExpectedImprovement(model, known, prune_baseline=True, **more)
    bounds = torch.tensor([[0.0], [1.0]], dtype=torch.float64).expand(2, points.shape[1])
    effort: dict[str, Any] = {"q": 1, "num_restarts": 4, "raw_samples": 128}
    if choices:
        found, _ = optimize_acqf_mixed(gain, bounds, fixed_features_list=list(choices), **effort)
    else:
        found, _ = optimize_acqf(gain, bounds, **effort)
    result: Array = found[0].numpy()
    return result


def _works(points: Array, worked: NDArray[np.bool_]) -> Any:
    """A Gaussian process of points (N, D): above 0 where they are likely to work."""
    import torch
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from gpytorch.mlls import ExactMarginalLogLikelihood

    labels = torch.tensor(np.where(worked, 1.0, -1.0)[:, None])
    model = SingleTaskGP(
        torch.tensor(points, dtype=torch.float64),
        labels,
        torch.full_like(labels, 1e-3),
        outcome_transform=None,
    )
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    return model


class BoTorchSampler(FoldAwareSampler):
    """For studies on one lane, in which every configuration is trained on all folds, before the next is drawn."""

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """{} for random draws: in the beginning, as ours, while twice as many trials as parameters are not there."""
        finished = [one for one in study.get_trials(deepcopy=False) if one.state == TrialState.COMPLETE]
        if not search_space or len(finished) < max(2, 2 * len(search_space)):
            return {}
        box = SpaceEncoding(search_space)
        points = box.points([one.params for one in finished]) / box.lengths
        values = np.array([one.value for one in finished], dtype=np.float64)
        by_fold = np.array([_by_fold(one) for one in finished])
        found = suggest(points, values, by_fold, int(self.rng.integers(2**32)), _choices(box, search_space))
        return box.params(box.lengths * found)


def _by_fold(trial: FrozenTrial) -> list[float]:
    scores = trial.user_attrs[BY_FOLD]
    return [scores[fold] for fold in sorted(scores)]


def _choices(box: SpaceEncoding, space: dict[str, BaseDistribution]) -> list[dict[int, float]]:
    """Every combination of the values that choices have in the unit cube, by coordinate; [] without choices."""
    places, at = [], 0
    for name, column in box.columns.items():
        distribution = space[name]
        if isinstance(distribution, CategoricalDistribution):
            coordinates = range(at, at + column.width)
            places.append(
                [
                    dict(zip(coordinates, (column.place(choice) / column.length).tolist(), strict=True))
                    for choice in distribution.choices
                ]
            )
        at += column.width
    merged = [{at: value for part in parts for at, value in part.items()} for parts in product(*places)]
    return merged if places else []
