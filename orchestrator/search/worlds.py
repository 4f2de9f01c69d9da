"""Simulated studies with a known best: worlds in which a race can be tried a thousand times.

A world says how good a setting truly is and how a fit shows it. Settings are points of the unit cube. A fit's Dice on
an image is the truth, plus what the image and its fold are like, plus what this setting makes of this sequence, image
and fold, plus the training seed. `Study` is the engine's loop without training: the same race, and samplers that are
shown the same estimates.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Container, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from orchestrator.search.race_rules import Race
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
    model = Surrogate.fit(points, values, folds)
    if not finished.all():
        flying = seen.points[~finished]
        points = np.concatenate([points, flying])
        values = np.concatenate([values, model.predict(flying)[0]])
        model = Surrogate.fit(points, values, np.concatenate([folds, np.ones(len(flying))]))
    return _point(suggest(model, rng))


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


@dataclass(frozen=True)
class World:
    """Sizes in Dice, 0.01 being one point. The defaults: 1,600 images in sequences of 8, five grouped folds."""

    name: str
    num_parameters: int = 3
    num_sequences: int = 200
    sequence_length: int = 8
    num_folds: int = 5
    scale: tuple[float, float] = (0.05, 0.12)  # lost at distance `reach` from the best, by parameter
    reach: float = 0.5
    fit_sd: float = 0.006  # training seed
    image_sd: float = 0.07  # setting by image
    sequence_share: float = 0.0  # of that variance, what images of a sequence share
    fold_sd: float = 0.0  # how much folds differ in difficulty
    fold_setting_sd: float = 0.0  # setting by fold
    is_null: bool = False  # all settings are equally good

    def draw(self, seed: int) -> Instance:
        return Instance(self, seed)


class Instance:
    """One world with its best point, images and folds, drawn by a seed."""

    def __init__(self, world: World, seed: int) -> None:
        rng = np.random.default_rng([seed, 0])
        self.world, self.seed = world, seed
        self.best = rng.uniform(0.15, 0.85, world.num_parameters)
        self.scale = rng.uniform(*world.scale, world.num_parameters) * (not world.is_null)
        self.first = tuple(np.clip(self.best + rng.normal(0, 0.25, world.num_parameters), 0, 1).tolist())
        self.fold_level = rng.normal(0, world.fold_sd, world.num_folds)
        self.image_level = [rng.normal(0, 0.03, self.images_per_fold) for _ in range(world.num_folds)]

    @property
    def sequences_per_fold(self) -> int:
        return self.world.num_sequences // self.world.num_folds

    @property
    def images_per_fold(self) -> int:
        return self.sequences_per_fold * self.world.sequence_length

    @property
    def groups(self) -> list[list[str]]:
        """groups[fold][image], as a race wants them."""
        one = np.repeat(np.arange(self.sequences_per_fold), self.world.sequence_length)
        return [[f"{fold}-{sequence}" for sequence in one] for fold in range(self.world.num_folds)]

    def regret(self, point: Point) -> float:
        """Dice lost to the best point."""
        return float(self.scale @ ((np.array(point) - self.best) / self.world.reach) ** 2)

    def fit(self, number: int, point: Point, fold: int) -> NDArray[np.float64]:
        """Dice of every image of a fold, (N,), in [0, 1]; the same whenever it is asked for."""
        world, rng = self.world, np.random.default_rng([self.seed, 1, number, fold])
        shared = rng.normal(0, world.image_sd * np.sqrt(world.sequence_share), self.sequences_per_fold)
        own = rng.normal(0, world.image_sd * np.sqrt(1 - world.sequence_share), self.images_per_fold)
        level = 0.7 - self.regret(point) + self.fold_level[fold] + rng.normal(0, world.fit_sd)
        level += rng.normal(0, world.fold_setting_sd)
        return np.clip(level + self.image_level[fold] + np.repeat(shared, world.sequence_length) + own, 0, 1)


WORLDS = (
    World("as in V12"),
    World("sequences alike", sequence_share=0.3),
    World("strong folds", fold_sd=0.04, fold_setting_sd=0.006),
    World("six parameters", num_parameters=6),
    World("noisy fits", fit_sd=0.012),
    World("few sequences", num_sequences=30, sequence_length=20, sequence_share=0.3),
)


@dataclass
class Setting:
    """What the study knows of one point."""

    point: Point
    scores: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    state: str = "running"  # running, paused, stopped, complete


@dataclass(frozen=True)
class Outcome:
    """A study when it had used so many fits, and who it would name then."""

    fits: int
    chosen: int
    regret: float  # of the chosen setting, Dice
    num_settings: int
    best_was_stopped: bool  # the truly best of all settings tried was stopped for good


class Study:
    """The engine's loop on an instance: lanes take fits, the race judges, the sampler is shown estimates."""

    def __init__(
        self,
        instance: Instance,
        race: Race,
        ask: Ask,
        *,
        lanes: int = 1,
        seed: int = 0,
        believes: bool = False,
        duration: Callable[[int, int], float] | None = None,
    ) -> None:
        """duration(number, fold): how long a fit takes; by default about 1."""
        self.instance, self.race, self.ask, self.believes = instance, race, ask, believes
        self.duration = duration
        self.busy = 0.0  # time that lanes have trained, all together
        self.lanes, self.seed, self.fits, self.clock = lanes, seed, 0, 0.0
        self.settings: list[Setting] = []
        self.running: list[tuple[float, int, int]] = []  # when it ends, number, fold
        self.speed = np.random.default_rng([seed, 2])

    def run(self, budgets: Sequence[int]) -> list[Outcome]:
        """At each budget of fits: stop asking, finish what is in flight, give the finalists their folds, choose."""
        outcomes = []
        for budget in sorted(budgets):
            self._advance(lambda budget=budget: self.fits + len(self.running) < budget)  # type: ignore[misc]
            outcomes.append(deepcopy(self)._finish())
        return outcomes

    def run_settings(self, num_settings: int) -> Outcome:
        """Try so many settings, then give the finalists their folds, on all lanes, and choose."""
        self._advance(lambda: len(self.settings) < num_settings)
        return self._finish(may_go=True)

    def _advance(self, has_room: Callable[[], bool]) -> None:
        while True:
            while len(self.running) < self.lanes and has_room() and self._start(new_wanted=True):
                pass
            if not has_room():
                return
            self._land(may_go=True)

    def _finish(self, may_go: bool = False) -> Outcome:
        """may_go: whether those in flight may have more folds."""
        while self.running:
            self._land(may_go)
            while len(self.running) < self.lanes and self._start(new_wanted=False):
                pass
        while self._start(new_wanted=False):
            while self.running:
                self._land(may_go=True)
        return self._outcome()

    def _start(self, new_wanted: bool) -> bool:
        """Start one fit: of somebody recalled, or of a new setting."""
        number = self.race.recall([n for n, s in enumerate(self.settings) if s.state == "paused"], new_wanted)
        if number is None:
            if not new_wanted:
                return False
            number = len(self.settings)
            self.settings.append(Setting(self._ask()))
        self._run_fold(number)
        return True

    def _run_fold(self, number: int) -> None:
        setting = self.settings[number]
        setting.state = "running"
        fold = next(f for f in range(self.instance.world.num_folds) if f not in setting.scores)
        duration = self.duration(number, fold) if self.duration else self.speed.uniform(0.8, 1.2)
        self.busy += duration
        heapq.heappush(self.running, (self.clock + duration, number, fold))

    def _land(self, may_go: bool) -> None:
        """Take in the fit that ends next; its setting goes on in the same lane, waits, or is over."""
        self.clock, number, fold = heapq.heappop(self.running)
        setting = self.settings[number]
        setting.scores[fold] = self.instance.fit(number, setting.point, fold)
        self.fits += 1
        self.race.see(number, setting.scores)
        if self.believes and self.fits > 3 * self.instance.world.num_parameters:
            self._believe()
        action = self.race.judge(number).action
        if len(setting.scores) == self.instance.world.num_folds:
            setting.state = "complete"
        elif action == "go" and may_go:
            self._run_fold(number)
        else:
            setting.state = "stopped" if action == "stop" else "paused"

    def _believe(self) -> None:
        seen = self._seen()
        done = np.flatnonzero(np.isfinite(seen.values))
        model = Surrogate.fit(seen.points[done], seen.values[done], seen.folds[done])
        self.race.believe(dict(zip(done.tolist(), model.predict(seen.points[done])[0].tolist(), strict=True)))

    def _ask(self) -> Point:
        """The next point: the first is given, as a paper's setting is."""
        return (
            self.ask(self._seen(), self.seed * 10_007 + len(self.settings))
            if self.settings
            else self.instance.first
        )

    def _seen(self) -> Seen:
        """All settings with what the race makes of them by now."""
        points = np.array([setting.point for setting in self.settings])
        folds = np.array([len(setting.scores) for setting in self.settings], dtype=np.float64)
        values = [
            self.race.estimate(n) if setting.scores else np.nan for n, setting in enumerate(self.settings)
        ]
        return Seen(points, np.array(values), folds)

    def _outcome(self) -> Outcome:
        regrets = [self.instance.regret(setting.point) for setting in self.settings]
        chosen = self.race.incumbent  # as the engine names it: by its score
        assert chosen is not None
        best = int(np.argmin(regrets))
        stopped = self.settings[best].state == "stopped"
        return Outcome(self.fits, chosen, regrets[chosen], len(self.settings), stopped)
