"""Who suggests the next setting: Optuna's samplers, shown what every setting so far is worth by now."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import StudyDirection
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from orchestrator.common.errors import BadStudy
from orchestrator.search.choices import SamplerName
from orchestrator.search.goals.goals import SecondaryGoals
from orchestrator.search.samplers.fold_aware_sampler import FOLDS, FoldAwareSampler
from orchestrator.search.samplers.single_draw import Shown
from orchestrator.search.space.space import SearchSpace

MAX_REPEATS = 10  # draws that may repeat a setting before one is sought at random: a small space holds few
GENERATION = ":generation"  # how samplers that breed end the name of the system attribute they count by
MAX_RANDOM = 1000  # random draws before it is said that none keeps the limits, or that all were tried
KNOW_NO_LIMITS: tuple[SamplerName, ...] = ("surrogate", "cmaes", "random")
POPULATION = 20  # settings in a generation of NSGA: Optuna's 50 would all be random in most studies


def _tpe(seed: int) -> BaseSampler:
    """Parameters are drawn jointly, those that some settings lack in groups; settings in flight are kept away from."""
    return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


def _cmaes(seed: int) -> BaseSampler:
    from orchestrator.search.samplers.cma_sampler import CmaSampler

    return CmaSampler(seed)


def _nsga(kind: type[NSGAIISampler | NSGAIIISampler]) -> Callable[..., BaseSampler]:
    return lambda seed: kind(seed=seed, population_size=POPULATION)


Makers = Mapping[SamplerName, Callable[..., BaseSampler]]
FOR_ONE: Makers = {
    "surrogate": FoldAwareSampler,
    "tpe": _tpe,
    "gp": GPSampler,
    "cmaes": _cmaes,
    "random": RandomSampler,
}
FOR_SEVERAL: Makers = {  # objectives
    "tpe": TPESampler,
    "gp": GPSampler,
    "nsga2": _nsga(NSGAIISampler),
    "nsga3": _nsga(NSGAIIISampler),
    "random": RandomSampler,
}
_KNOWN: dict[
    str, dict[str, BaseDistribution]
] = {}  # distributions by what they say: as many as a space has cases
# Settings that were not bred, such as the paper's, belong to the first generation.
FIRST = {kind._get_generation_key(): 0 for kind in (NSGAIISampler, NSGAIIISampler)}


def makers(num_objectives: int) -> Makers:
    """Who can suggest settings of a study with so many objectives."""
    return FOR_ONE if num_objectives == 1 else FOR_SEVERAL


def default_sampler(num_objectives: int) -> SamplerName:
    """With several objectives TPE, as in Optuna: NSGA needs hundreds of settings."""
    return "surrogate" if num_objectives == 1 else "tpe"


@dataclass(frozen=True)
class PastTrial:
    """A setting that was asked for before."""

    trial: FrozenTrial
    value: float | None  # what it is worth by all that is known; None: it has shown nothing yet
    num_folds: int  # that this rests on
    secondary: tuple[float, ...] = ()  # values of further objectives
    excess: Mapping[str, float] = field(default_factory=dict)  # of limits; above 0 it is too much

    @property
    def is_ineligible(self) -> bool:
        return any(value > 0 for value in self.excess.values())

    @cached_property
    def shown(self) -> FrozenTrial:
        """As samplers see it, made once: finished at its value; in flight where it has none, so that parallel trials
        keep apart."""
        return shown(self)


class TriedConfigurations:
    """Settings that were asked for, each as it is written."""

    def __init__(self, space: SearchSpace, configuration: Iterable[Mapping[str, Any]] = ()) -> None:
        self.space = space
        self.known = {self._key(one) for one in configuration}

    def add(self, params: Mapping[str, Any]) -> None:
        self.known.add(self._key(params))

    def __contains__(self, params: Mapping[str, Any]) -> bool:
        return self._key(params) in self.known

    def _key(self, params: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
        return frozenset(self.space.exact(params).items())


@dataclass(frozen=True)
class Proposal:
    """A setting to try next."""

    params: dict[str, Any]  # the searched ones
    marks: dict[str, int]  # what its sampler wants to find with the trial later: user attributes of it


def draw(
    space: SearchSpace,
    past: Sequence[PastTrial],
    sampler: SamplerName,
    seed: int,
    directions: Sequence[StudyDirection] = (StudyDirection.MAXIMIZE,),
    secondary: SecondaryGoals | None = None,
    tried: TriedConfigurations | None = None,
) -> Proposal | None:
    """The next setting, within the limits and not tried before; None where no such setting is found.

    Where the sampler finds none, one at random is looked for. `tried`: by default those of `past`.
    """
    tried = tried or TriedConfigurations(space, (one.trial.params for one in past))
    drawn = chain(_draws(space, past, sampler, seed, directions), _at_random(space, seed))
    return next((o for o in drawn if o.params not in tried and _is_allowed(space, o.params, secondary)), None)


def refuse_unless_allowed(space: SearchSpace, secondary: SecondaryGoals, seed: int) -> None:
    """Raises `BadStudy` if no setting of very many is within the limits."""
    if not any(_is_allowed(space, drawn.params, secondary) for drawn in _at_random(space, seed)):
        limits = ", ".join(map(str, secondary.limits))
        raise BadStudy("--constraint", f"none of {MAX_RANDOM} random settings of this space keeps {limits}")


def _at_random(space: SearchSpace, seed: int) -> Iterator[Proposal]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=RandomSampler(seed=seed))
    for _ in range(MAX_RANDOM):
        trial = study.ask()
        space.sample(trial)
        yield Proposal(space.exact(trial.params), {})


def _is_allowed(space: SearchSpace, params: Mapping[str, Any], secondary: SecondaryGoals | None) -> bool:
    """Whether it keeps the limits, as far as that is known before it is trained."""
    if secondary is None or not secondary.limits:
        return True
    return secondary.broken(space.configuration(space.sample(FixedTrial(dict(params))))) is None


def _draws(
    space: SearchSpace,
    past: Sequence[PastTrial],
    sampler: SamplerName,
    seed: int,
    directions: Sequence[StudyDirection],
) -> Iterator[Proposal]:
    seen = _failed_as_the_worst(space, _punished(past) if sampler in KNOW_NO_LIMITS else past, directions)
    for repeat in range(MAX_REPEATS):
        with warnings.catch_warnings():
            # Of TPE's groups, since version 2.8, and of NSGA-III, since 3.2.
            warnings.simplefilter("ignore", ExperimentalWarning)
            made = makers(len(directions))[sampler](seed=(seed + repeat) % 2**32)
        storage = Shown([one.shown for one in seen])
        study = optuna.create_study(storage=storage, directions=directions, sampler=made)
        trial = study.ask()
        space.sample(trial)
        yield Proposal(space.exact(trial.params), _marks(storage.get_trial(trial._trial_id).system_attrs))


def _punished(past: Sequence[PastTrial]) -> list[PastTrial]:
    """As bad as the worst, where a limit is exceeded."""
    worst = min((one.value for one in past if one.value is not None), default=0.0)
    return [replace(one, value=worst) if one.is_ineligible and one.value is not None else one for one in past]


def _failed_as_the_worst(
    space: SearchSpace, past: Sequence[PastTrial], directions: Sequence[StudyDirection]
) -> list[PastTrial]:
    """Failed settings as bad as the worst in every objective: a sampler that hears nothing of them asks for more.

    Left out: one that was killed while it was drawn, and all as long as several objectives are known of none.
    """
    known = [(one.value, *one.secondary) for one in past if one.value is not None]
    if not known and len(directions) == 1:
        known = [(0.0,)]
    columns = zip(directions, zip(*known, strict=True), strict=bool(known))
    worst = [min(column) if which == StudyDirection.MAXIMIZE else max(column) for which, column in columns]
    kept = dict.fromkeys((name for one in past for name in one.excess), 0.0)
    told = []
    for one in past:
        if one.trial.state != TrialState.FAIL:
            told.append(one)
        elif worst and space.drawn(one.trial.params) is not None:
            told.append(replace(one, value=worst[0], secondary=tuple(worst[1:]), excess=kept))
    return told


def shown(past: PastTrial) -> FrozenTrial:
    """Finished at its value; in flight where it has none, so that parallel trials keep apart."""
    trial = past.trial
    made = create_trial(
        state=TrialState.RUNNING if past.value is None else TrialState.COMPLETE,
        values=None if past.value is None else (past.value, *past.secondary),
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={FOLDS: past.num_folds},
        constraints=dict(past.excess) or None,
        system_attrs=FIRST | _marks(trial.user_attrs),
    )
    made.distributions = _shared(made.distributions)
    return made


def _shared(distributions: dict[str, BaseDistribution]) -> dict[str, BaseDistribution]:
    """The one dict that stands for all equal ones."""
    return _KNOWN.setdefault(repr(sorted(distributions.items())), distributions)


def _marks(attributes: Mapping[str, Any]) -> dict[str, int]:
    return {name: value for name, value in attributes.items() if name.endswith(GENERATION)}
