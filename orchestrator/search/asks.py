"""Who suggests in a simulated study: samplers on points of the unit cube, shown what the engine shows them."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from orchestrator.search.surrogate import Surrogate, suggest

Point = tuple[float, ...]


@dataclass(frozen=True)
class Seen:
    """What a sampler is shown: points (N, D), values (N,) with nan for those in flight, folds (N,) they rest on."""

    points: NDArray[np.float64]
    values: NDArray[np.float64]
    folds: NDArray[np.float64]


Ask = Callable[[Seen, int], Point]  # and a seed


def ask_optuna(make_sampler: Callable[[int], BaseSampler]) -> Ask:
    """A sampler of Optuna's on a throwaway study in memory, as the engine shows it one."""

    def ask(seen: Seen, seed: int) -> Point:
        sampler = make_sampler(seed % 2**32)
        names = [f"x{i}" for i in range(seen.points.shape[1])]
        study = optuna.create_study(direction="maximize", storage=_Shown(names, seen), sampler=sampler)
        trial = _trial(names, len(seen.points), None, None)
        space = sampler.infer_relative_search_space(study, trial)
        found = sampler.sample_relative(study, trial, space)
        found |= {n: sampler.sample_independent(study, trial, n, _UNIT) for n in names if n not in found}
        return tuple(float(found[name]) for name in names)

    return ask


def ask_random(seen: Seen, seed: int) -> Point:
    """Anywhere in the unit cube."""
    return _point(np.random.default_rng([seed, 4]).random(seen.points.shape[1:]))


def ask_surrogate(seen: Seen, seed: int) -> Point:
    """Our Gaussian process, which knows of folds."""
    rng = np.random.default_rng([seed, 3])
    finished = np.isfinite(seen.values)
    if finished.sum() < 2 * seen.points.shape[1]:
        return _point(rng.random(seen.points.shape[1:]))
    points, values, folds = seen.points[finished], seen.values[finished], seen.folds[finished]
    model = fitted(points, values, folds)
    if not finished.all():
        flying = seen.points[~finished]
        points = np.concatenate([points, flying])
        values = np.concatenate([values, model.predict(flying)[0]])
        model = Surrogate.fit(points, values, np.concatenate([folds, np.ones(len(flying))]))
    return _point(suggest(model, rng))


def fitted(points: NDArray[np.float64], values: NDArray[np.float64], folds: NDArray[np.float64]) -> Surrogate:
    """The model of what was seen; it is remembered, for who judges and who asks need the same one after another."""
    return _fitted(points.shape[1], points.tobytes(), values.tobytes(), folds.tobytes())


@lru_cache(maxsize=4)
def _fitted(num_parameters: int, points: bytes, values: bytes, folds: bytes) -> Surrogate:
    return Surrogate.fit(
        np.frombuffer(points).reshape(-1, num_parameters), np.frombuffer(values), np.frombuffer(folds)
    )


def _point(values: NDArray[np.float64]) -> Point:
    return tuple(float(value) for value in values)


_UNIT = FloatDistribution(0, 1)


class _Shown(InMemoryStorage):
    """A study that holds these trials; nothing is copied, for a simulation asks ten thousand times."""

    def __init__(self, names: Sequence[str], seen: Seen) -> None:
        super().__init__()
        rows = zip(seen.points.tolist(), seen.values.tolist(), strict=True)
        self.shown = [_trial(names, number, point, value) for number, (point, value) in enumerate(rows)]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [trial for trial in self.shown if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: object) -> None:
        """A sampler's notes on the trial asked for: nobody reads them."""


def _trial(
    names: Sequence[str], number: int, point: Sequence[float] | None, value: float | None
) -> FrozenTrial:
    finished = value is not None and np.isfinite(value)
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=TrialState.COMPLETE if finished else TrialState.RUNNING,
        value=value if finished else None,
        datetime_start=_START,
        datetime_complete=_START if finished else None,
        params={} if point is None else dict(zip(names, point, strict=True)),
        distributions={} if point is None else dict.fromkeys(names, _UNIT),
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )


_START = datetime(2026, 1, 1)
