"""Draw of the next configuration: the sampler reads every trial at its present score, in a new study."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FixedTrial, Trial, TrialState, create_trial

from orchestrator.common.cpus import one_thread
from orchestrator.common.display import counted
from orchestrator.common.errors import BadStudy
from orchestrator.common.private_api import member
from orchestrator.search.choices import SamplerName
from orchestrator.search.goals.constraints import Limit
from orchestrator.search.goals.goals import SecondaryGoals
from orchestrator.search.samplers.fold_aware_sampler import TIME_LEFT
from orchestrator.search.samplers.past_trials import NOTE, PastTrial
from orchestrator.search.samplers.registry import SAMPLERS, sampler_kind
from orchestrator.search.samplers.sampler_kind import OPTION, SamplerKind
from orchestrator.search.samplers.single_draw import PastTrialStorage
from orchestrator.search.space.space import Configuration, SearchSpace

MAX_REPEATS = (
    10  # draws that may repeat a configuration before random ones are tried: a small space holds few
)
MAX_RANDOM = 1000  # random draws before none is said to be within the limits, or all to be tried


class TriedConfigurations:
    """Configurations of earlier trials, compared by `SearchSpace.exact`."""

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
    """A configuration to try next."""

    params: dict[str, Any]  # values of the searched parameters
    marks: dict[
        str, Any
    ]  # user attributes of the trial: what its sampler wrote on it, to be shown to it again


@one_thread()
def draw(
    space: SearchSpace,
    past: Sequence[PastTrial],
    sampler: SamplerName,
    seed: int,
    directions: Sequence[StudyDirection] = (StudyDirection.MAXIMIZE,),
    secondary: SecondaryGoals | None = None,
    tried: TriedConfigurations | None = None,
    time_left: float | None = None,
) -> Proposal | None:
    """The next configuration, within the limits and not tried before; None where none is found.

    Where the sampler proposes none, random ones are tried. `tried`: by default the configurations of `past`.
    `time_left`: share of the hours of a study that is left; None where hours do not limit it.
    Raises `BadStudy` where the sampler is unknown.
    """
    tried = tried or TriedConfigurations(space, (one.trial.params for one in past))
    drawn = chain(_draws(space, past, sampler, seed, directions, time_left), _at_random(space, seed))
    return next((o for o in drawn if o.params not in tried and is_allowed(space, o.params, secondary)), None)


def refuse_unless_allowed(space: SearchSpace, secondary: SecondaryGoals, seed: int) -> None:
    """Raises `BadStudy` if none of `MAX_RANDOM` random configurations is within the limits."""
    if any(is_allowed(space, drawn.params, secondary) for drawn in _at_random(space, seed)):
        return
    limits = ", ".join(map(str, secondary.limits))
    tried = [_configuration(space, drawn.params) for drawn in _at_random(space, seed)]
    least = [_least(tried, limit) for limit in secondary.limits if not limit.cost.is_measured]
    raise BadStudy(
        "--constraint",
        f"none of {MAX_RANDOM} random configurations of this space stays within {limits}; the smallest costs: "
        f"{', '.join(least)}; raise the limit, or use smaller values in the space",
    )


def _least(tried: Sequence[Configuration], limit: Limit) -> str:
    """Text with the lowest cost among these configurations, of the kind that is limited, and its network."""
    costs = [(cost, one.network) for one in tried if (cost := limit.cost(one)) is not None]
    cost, network = min(costs)
    return f"{limit.cost.name} {limit.cost.text(cost)} ({network})"


def refuse_unless_drawn(
    space: SearchSpace, sampler: SamplerName, directions: Sequence[StudyDirection], seed: int
) -> tuple[str, ...]:
    """Remarks on the sampler for the user, a sentence each. Raises `BadStudy` if it cannot sample this space.

    A sampler of Optuna or OptunaHub is tried on two invented trials, so that what it refuses is known before a fit.
    """
    kind = sampler_kind(sampler, len(directions))
    if not kind.keeps_notes:
        return kind.remarks
    past = [_invented(space, params, 0.5, len(directions)) for params in _two_configurations(space, seed)]
    try:
        storage = _sampled(space, past, kind, directions, seed)[1]
    except ImportError as missing:
        raise BadStudy(
            OPTION, f"{sampler} needs a package: {missing}; pip install {missing.name}"
        ) from missing
    except Exception as failure:  # of code that the user named: whatever it raises, it cannot sample here
        reason = f"{sampler} cannot sample this search space for {counted(len(directions), 'objective')}: {failure}"
        raise BadStudy(OPTION, reason) from failure
    if kept := storage.get_study_system_attrs(0):
        reason = f"{sampler} keeps state on the study ({', '.join(kept)}), which is rebuilt for each draw"
        raise BadStudy(OPTION, f"{reason}; built in are {', '.join(SAMPLERS)}")
    return kind.remarks


def _two_configurations(space: SearchSpace, seed: int) -> list[dict[str, Any]]:
    return [dict(space.baselines[0]), next(_at_random(space, seed)).params]


def _invented(space: SearchSpace, params: Mapping[str, Any], value: float, num_objectives: int) -> PastTrial:
    trial = FixedTrial(dict(params))
    space.sample(trial)
    stored = create_trial(value=value, params=trial.params, distributions=trial.distributions)
    return PastTrial(stored, value, 1, (value,) * (num_objectives - 1))


def _at_random(space: SearchSpace, seed: int) -> Iterator[Proposal]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=RandomSampler(seed=seed))
    for _ in range(MAX_RANDOM):
        trial = study.ask()
        space.sample(trial)
        yield Proposal(space.exact(trial.params), {})


def is_allowed(space: SearchSpace, params: Mapping[str, Any], secondary: SecondaryGoals | None) -> bool:
    """Whether a configuration keeps the limits, as far as that is known before it is trained."""
    if secondary is None or not secondary.limits:
        return True
    return secondary.broken(_configuration(space, params)) is None


def _configuration(space: SearchSpace, params: Mapping[str, Any]) -> Configuration:
    return space.configuration(space.sample(FixedTrial(dict(params))))


def _draws(
    space: SearchSpace,
    past: Sequence[PastTrial],
    sampler: SamplerName,
    seed: int,
    directions: Sequence[StudyDirection],
    time_left: float | None = None,
) -> Iterator[Proposal]:
    kind = sampler_kind(sampler, len(directions))
    if kind.reads_failures:
        seen = _failed(space, past)
    else:
        seen = _failed_as_the_worst(space, past if kind.reads_constraints else _punished(past), directions)
    for repeat in range(MAX_REPEATS):
        drawn, storage = _sampled(space, seen, kind, directions, (seed + repeat) % 2**32, time_left)
        notes = storage.get_trial(member(drawn, "_trial_id")).system_attrs if kind.keeps_notes else {}
        marks = {f"{NOTE}{name}": value for name, value in notes.items()}
        yield Proposal(space.exact(drawn.params), marks)


def _sampled(
    space: SearchSpace,
    past: Sequence[PastTrial],
    kind: SamplerKind,
    directions: Sequence[StudyDirection],
    seed: int,
    time_left: float | None = None,
) -> tuple[Trial, PastTrialStorage]:
    """The trial that a new sampler proposes after `past`, and the storage that contains them all."""
    with warnings.catch_warnings():
        # TPE's groups and NSGA-III are experimental; some arguments will be removed from Optuna 6.
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.simplefilter("ignore", FutureWarning)
        made = kind.make(seed, len(directions))
        storage = PastTrialStorage([one.shown for one in past])
        study = optuna.create_study(storage=storage, directions=directions, sampler=made)
        if time_left is not None:
            study.set_user_attr(TIME_LEFT, time_left)
        trial = study.ask()
        space.sample(trial)
    return trial, storage


def _punished(past: Sequence[PastTrial]) -> list[PastTrial]:
    """Trials that exceed a limit get the lowest value of all."""
    worst = min((one.value for one in past if one.value is not None), default=0.0)
    return [
        replace(one, value=worst, by_fold={}) if one.is_ineligible and one.value is not None else one
        for one in past
    ]


def _failed(space: SearchSpace, past: Sequence[PastTrial]) -> list[PastTrial]:
    """Trials that failed or exceed a limit are shown as failed. Left out: one that was killed while it was sampled."""
    found = []
    for one in past:
        has_failed = one.trial.state == TrialState.FAIL
        if has_failed or one.is_ineligible:
            one = replace(one, is_failed=True, value=None, secondary=(), excess={}, by_fold={})
        if not has_failed or space.drawn(one.trial.params) is not None:
            found.append(one)
    return found


def _failed_as_the_worst(
    space: SearchSpace, past: Sequence[PastTrial], directions: Sequence[StudyDirection]
) -> list[PastTrial]:
    """Failed trials get the worst value of every objective: a sampler that is not shown them samples more of them.

    Left out: a trial that was killed while it was sampled, and every failed one until values of several objectives are
    known.
    """
    if not any(one.trial.state == TrialState.FAIL for one in past):
        return list(past)
    known = [(one.value, *one.secondary) for one in past if one.value is not None]
    if not known and len(directions) == 1:
        known = [(0.0,)]
    columns = zip(directions, zip(*known, strict=True), strict=bool(known))
    worst = [min(column) if which == StudyDirection.MAXIMIZE else max(column) for which, column in columns]
    kept = dict.fromkeys((name for one in past for name in one.excess), 0.0)
    found = []
    for one in past:
        if one.trial.state != TrialState.FAIL:
            found.append(one)
        elif worst and space.drawn(one.trial.params) is not None:
            found.append(replace(one, value=worst[0], secondary=tuple(worst[1:]), excess=kept, by_fold={}))
    return found
