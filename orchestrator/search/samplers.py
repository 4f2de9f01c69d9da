"""Who suggests the next setting: Optuna's samplers, shown what every setting so far is worth by now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator.search.choices import SamplerName
from orchestrator.search.space import SearchSpace
from orchestrator.search.surrogate_sampler import FOLDS, SurrogateSampler

SAMPLERS: dict[SamplerName, Callable[..., BaseSampler]] = {
    "surrogate": SurrogateSampler,
    "tpe": TPESampler,
    "gp": GPSampler,
    "random": RandomSampler,
}
MAX_REPEATS = 10  # draws that may repeat a setting before one is accepted: a small space holds few


@dataclass(frozen=True)
class Past:
    """A setting that was asked for before."""

    trial: FrozenTrial
    value: float | None  # what it is worth by all that is known; None: it has shown nothing yet
    num_folds: int  # that this rests on


def draw(space: SearchSpace, past: Sequence[Past], sampler: SamplerName, seed: int) -> dict[str, Any]:
    """The searched parameters of the next setting; one that was not tried before, where there is one left to find."""
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
    return trial.params


def shown(past: Past) -> FrozenTrial:
    """Finished at its value; in flight where it has none, so that parallel trials keep apart."""
    trial = past.trial
    return create_trial(
        state=TrialState.RUNNING if past.value is None else TrialState.COMPLETE,
        value=past.value,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={FOLDS: past.num_folds},
    )
