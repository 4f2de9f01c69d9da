"""Samplers as proposers of simulated studies, shown what the engine shows a sampler.

Parameters are numbers from 0 to 1, all of them or a choice of some; a point holds one of each.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from datetime import datetime

import botorch_search
import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from orchestrator.search.samplers.encoding import SpaceEncoding
from orchestrator.search.samplers.expected_gain import suggest
from orchestrator.search.samplers.failures import first_likely_to_work, likely_failures
from orchestrator.search.samplers.fold_aware_sampler import (
    BY_FOLD,
    FOLDS,
    SECONDS,
    TIME_LEFT,
    PosteriorMeans,
)
from orchestrator.search.samplers.inducing_points import fitted
from orchestrator.search.simulated.memory import Proposer, SeenTrials
from orchestrator.search.simulated.worlds import Point
from orchestrator.search.space.keys import NETWORK


def ask_optuna(make_sampler: Callable[[int], BaseSampler]) -> Proposer:
    """A sampler of Optuna on a temporary study in memory, as the engine shows it one."""

    def ask(seen: SeenTrials, seed: int) -> Point:
        sampler = make_sampler(seed % 2**32)
        study = optuna.create_study(direction="maximize", storage=_Shown(seen), sampler=sampler)
        trial = _trial(seen, len(seen.points), None, None)
        space = sampler.infer_relative_search_space(study, trial)
        found = sampler.sample_relative(study, trial, space)
        for name, distribution in seen.named.items():
            if name not in found:
                found[name] = sampler.sample_independent(study, trial, name, distribution)
        return tuple(float(found[name]) for name in seen.named)

    return ask


def ask_over_networks(make_sampler: Callable[[int], BaseSampler]) -> Proposer:
    """As `ask_optuna`, where the network is a choice, by which it depends what other parameters there are."""

    def ask(seen: SeenTrials, seed: int) -> Point:
        sampler = make_sampler(seed % 2**32)
        study = optuna.create_study(direction="maximize", storage=_Shown(seen), sampler=sampler)
        if seen.time_left is not None:
            study.set_user_attr(TIME_LEFT, seen.time_left)
        trial = _trial(seen, len(seen.points), None, None)
        space = sampler.infer_relative_search_space(study, trial)
        found = sampler.sample_relative(study, trial, space)
        drawn: dict[str, object] = {}
        for name, distribution in sorted(seen.named.items(), key=lambda item: item[0] != NETWORK):
            if "." in name and name.split(".")[0] != str(drawn[NETWORK]).split()[1]:
                continue
            drawn[name] = (
                found[name] if name in found else sampler.sample_independent(study, trial, name, distribution)
            )
        return seen.point(drawn)

    return ask


def predictions_over_networks(seen: SeenTrials) -> NDArray[np.float64]:
    """As `predictions`, where the network is a choice."""
    rows = zip(seen.points.tolist(), seen.values.tolist(), strict=True)
    model = PosteriorMeans([_trial(seen, number, point, value) for number, (point, value) in enumerate(rows)])
    return np.array(model.all() or seen.values)


def ask_by_network(ask: Proposer) -> Proposer:
    """A study for every network, all for as long: the next trial is of the one that had the least time so far."""

    def ask_least(seen: SeenTrials, seed: int) -> Point:
        spent = seen.folds * np.nan_to_num(seen.seconds)
        networks = _networks(seen)
        network = min(set(networks), key=lambda one: spent[networks == one].sum())
        rows, columns = _study_of(seen, network)
        point = np.full(len(seen.space), np.nan)
        point[columns] = ask(_part(seen, rows, columns), seed)
        point[list(seen.named).index(NETWORK)] = network
        return tuple(point.tolist())

    return ask_least


def predictions_by_network(
    predict: Callable[[SeenTrials], NDArray[np.float64]],
) -> Callable[[SeenTrials], NDArray[np.float64]]:
    """Of every network by a model of its own."""

    def predict_each(seen: SeenTrials) -> NDArray[np.float64]:
        result = np.empty(len(seen.points))
        for network in set(_networks(seen)):
            rows, columns = _study_of(seen, network)
            result[rows] = predict(_part(seen, rows, columns))
        return result

    return predict_each


def _networks(seen: SeenTrials) -> NDArray[np.float64]:
    """The network of every trial, (N,)."""
    return seen.points[:, list(seen.named).index(NETWORK)]


def _study_of(seen: SeenTrials, network: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of the trials of a network, and columns of its parameters."""
    rows = np.flatnonzero(_networks(seen) == network)
    has = np.isfinite(seen.points[rows[0]])
    has[list(seen.named).index(NETWORK)] = False
    return rows, np.flatnonzero(has)


def _part(seen: SeenTrials, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> SeenTrials:
    names = list(seen.named)
    return SeenTrials(
        seen.points[np.ix_(rows, columns)],
        seen.values[rows],
        seen.folds[rows],
        seen.failed[rows],
        [seen.space[column] for column in columns],
        [names[column] for column in columns],
        by_fold=None if seen.by_fold is None else seen.by_fold[rows],
    )


def ask_random(seen: SeenTrials, seed: int) -> Point:
    """Anywhere."""
    return _anywhere(seen, np.random.default_rng([seed, 4]))


def ask_surrogate(seen: SeenTrials, seed: int) -> Point:
    """Our Gaussian process, which knows of folds."""
    rng = np.random.default_rng([seed, 3])
    finished = np.isfinite(seen.values) & ~seen.failed
    if finished.sum() < 2 * seen.points.shape[1]:
        return _likely_to_work(seen, rng)
    box = SpaceEncoding(seen.named)
    points, values, folds = _in_box(box, seen.points[finished]), seen.values[finished], seen.folds[finished]
    in_flight = _in_box(box, seen.points[np.isnan(seen.values)])
    by_fold = None if seen.by_fold is None else seen.by_fold[finished]
    model = fitted(points, values, folds, by_fold)
    if len(in_flight):
        model = model.seeing(in_flight)
    avoided = likely_failures(points, _in_box(box, seen.points[seen.failed]))
    return tuple(map(float, box.params(suggest(model, rng, box, avoided=avoided)).values()))


def ask_botorch(seen: SeenTrials, seed: int) -> Point:
    """BoTorch's noisy expected improvement."""
    if (~seen.failed).sum() < max(2, 2 * seen.points.shape[-1]) or seen.by_fold is None:
        return _likely_to_work(seen, np.random.default_rng([seed, 3]))
    return tuple(map(float, botorch_search.suggest(seen.points, seen.values, seen.by_fold, seed)))


def predictions_botorch(seen: SeenTrials) -> NDArray[np.float64]:
    """The expectations of BoTorch's model at every point; the values themselves as long as a fold is missing."""
    import torch

    if len(seen.points) < 2 or seen.by_fold is None or not np.isfinite(seen.by_fold).all():
        return seen.values
    model = botorch_search.model_of(seen.points, seen.values, seen.by_fold)
    points = torch.tensor(seen.points, dtype=torch.float64)
    result: NDArray[np.float64] = model.posterior(points).mean.detach().numpy()[:, 0]
    return result


def predictions(seen: SeenTrials) -> NDArray[np.float64]:
    """What our model expects of every point, all of them finished."""
    points = _in_box(SpaceEncoding(seen.named), seen.points)
    return fitted(points, seen.values, seen.folds, seen.by_fold).predict(points)[0]


def _in_box(box: SpaceEncoding, points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([box.point(dict(zip(box.columns, point, strict=True))) for point in points.tolist()])


def _likely_to_work(seen: SeenTrials, rng: np.random.Generator) -> Point:
    """Anywhere, but not near those that failed."""
    if not seen.failed.any():
        return _anywhere(seen, rng)
    box = SpaceEncoding(seen.named)
    points = box.snap(box.lengths * rng.random((200, len(box.lengths))))
    worked, failed = (
        _in_box(box, seen.points[which]) for which in (np.isfinite(seen.values) & ~seen.failed, seen.failed)
    )
    return tuple(map(float, box.params(first_likely_to_work(points, worked, failed)).values()))


def _anywhere(seen: SeenTrials, rng: np.random.Generator) -> Point:
    drawn = [
        rng.random() if isinstance(one, FloatDistribution) else rng.choice(one.choices)  # type: ignore[attr-defined]
        for one in seen.space
    ]
    return tuple(map(float, drawn))


class _Shown(InMemoryStorage):
    """A study that holds these trials; nothing is copied, for a simulation asks ten thousand times."""

    def __init__(self, seen: SeenTrials) -> None:
        super().__init__()
        rows = zip(seen.points.tolist(), seen.values.tolist(), strict=True)
        self.shown = [_trial(seen, number, point, value) for number, (point, value) in enumerate(rows)]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [trial for trial in self.shown if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: object) -> None:
        """A sampler's notes on the trial asked for: nobody reads them."""


def _trial(seen: SeenTrials, number: int, point: Sequence[float] | None, value: float | None) -> FrozenTrial:
    finished = value is not None and np.isfinite(value)
    params = {} if point is None else seen.params(point)
    attrs: dict[str, object] = {}
    if point is not None:
        attrs[FOLDS] = float(seen.folds[number])
        if seen.by_fold is not None:
            row = seen.by_fold[number]
            attrs[BY_FOLD] = {fold: row[fold] for fold in np.flatnonzero(np.isfinite(row)).tolist()}
        if seen.seconds is not None and np.isfinite(seen.seconds[number]):
            attrs[SECONDS] = float(seen.seconds[number])
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=TrialState.COMPLETE if finished else TrialState.RUNNING,
        value=value if finished else None,
        datetime_start=_START,
        datetime_complete=_START if finished else None,
        params=params,
        distributions=seen.named
        if len(params) == len(seen.named)
        else {name: seen.named[name] for name in params},
        user_attrs=attrs,
        system_attrs={},
        intermediate_values={},
    )


_START = datetime(2026, 1, 1)
