"""Who suggests the next setting: Optuna's samplers, shown what every setting so far is worth by now."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator.search.choices import SamplerName
from orchestrator.search.space import SearchSpace
from orchestrator.search.surrogate_sampler import FOLDS, SurrogateSampler

MAX_REPEATS = 10  # draws that may repeat a setting before one is accepted: a small space holds few
GENERATION = ":generation"  # how samplers that breed end the name of the system attribute they count by


def _tpe(seed: int) -> BaseSampler:
    """Parameters are drawn jointly, those that some settings lack in groups; settings in flight are kept away from."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # `group`, since version 2.8
        return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


def _cmaes(seed: int) -> BaseSampler:
    from orchestrator.search.cma_sampler import CmaSampler

    return CmaSampler(seed)


SAMPLERS: dict[SamplerName, Callable[..., BaseSampler]] = {
    "surrogate": SurrogateSampler,
    "tpe": _tpe,
    "gp": GPSampler,
    "cmaes": _cmaes,
    "random": RandomSampler,
}


@dataclass(frozen=True)
class Past:
    """A setting that was asked for before."""

    trial: FrozenTrial
    value: float | None  # what it is worth by all that is known; None: it has shown nothing yet
    num_folds: int  # that this rests on


@dataclass(frozen=True)
class Drawn:
    """A setting to try next."""

    params: dict[str, Any]  # the searched ones
    marks: dict[str, int]  # what its sampler wants to find with the trial later: user attributes of it


def draw(space: SearchSpace, past: Sequence[Past], sampler: SamplerName, seed: int) -> Drawn:
    """The next setting; one that was not tried before, where there is one left to find."""
    tried = [one.trial.params for one in past]
    for repeat in range(MAX_REPEATS):
        study = optuna.create_study(
            direction="maximize", sampler=SAMPLERS[sampler](seed=(seed + repeat) % 2**32)
        )
        study.add_trials([shown(one) for one in past if one.trial.state != TrialState.FAIL])
        trial = study.ask()
        space.sample(trial)
        if trial.params not in tried:
            break
    return Drawn(trial.params, _marks(study.trials[-1].system_attrs))


def shown(past: Past) -> FrozenTrial:
    """Finished at its value; in flight where it has none, so that parallel trials keep apart."""
    trial = past.trial
    return create_trial(
        state=TrialState.RUNNING if past.value is None else TrialState.COMPLETE,
        value=past.value,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={FOLDS: past.num_folds},
        system_attrs=_marks(trial.user_attrs),
    )


def _marks(attributes: Mapping[str, Any]) -> dict[str, int]:
    return {name: value for name, value in attributes.items() if name.endswith(GENERATION)}
