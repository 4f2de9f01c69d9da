"""Trials, scores and fits of the engine in memory: arrays in place of records, a world in place of training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution

from orchestrator.search.race.early_stopping import Curve, Finished, expected_difference
from orchestrator.search.race.rules import Race, Verdict
from orchestrator.search.race.verdicts import Verdicts
from orchestrator.search.samplers.stopping_rule import ShownTrial
from orchestrator.search.simulated.worlds import Instance, Point


@dataclass
class SimulatedTrial:
    """A configuration, a point of its space, and its fits."""

    point: Point
    scores: dict[int, NDArray[np.float64]] = field(
        default_factory=dict
    )  # fold -> Dice of images, of finished fits
    curves: dict[int, NDArray[np.float64]] = field(
        default_factory=dict
    )  # fold -> Dice by epoch, of all fits begun
    state: str = "open"  # then "complete", "stopped" or "failed"


@dataclass(frozen=True)
class SeenTrials:
    """Trials as a proposer sees them: points (N, D), values (N,), nan in flight, numbers of folds (N,)."""

    points: NDArray[np.float64]
    values: NDArray[np.float64]
    folds: NDArray[np.float64]
    failed: NDArray[np.bool_]  # (N,), whose values are the lowest of all others
    space: Sequence[BaseDistribution]  # of every parameter
    names: Sequence[str] | None = None  # of these; None: x0, x1, ...
    seconds: NDArray[np.float64] | None = None  # (N,) of a fit of each; nan where none was finished
    time_left: float | None = None  # share of the budget, where that is of time
    by_fold: NDArray[np.float64] | None = None  # (N, F) Dice on each fold; nan where a point has none

    @cached_property
    def named(self) -> dict[str, BaseDistribution]:
        names = self.names or [f"x{place}" for place in range(len(self.space))]
        return dict(zip(names, self.space, strict=True))

    def params(self, point: Sequence[float]) -> dict[str, Any]:
        """The parameters of a point; nan are those that it does not have, and a choice of names is by its place."""
        found: dict[str, Any] = {}
        for (name, distribution), value in zip(self.named.items(), point, strict=True):
            choices = getattr(distribution, "choices", (0.0,))
            if not np.isnan(value):
                found[name] = choices[int(value)] if isinstance(choices[0], str) else value
        return found

    def point(self, params: Mapping[str, Any]) -> Point:
        """The point of these parameters."""
        found = []
        for name, distribution in self.named.items():
            value = params.get(name, float("nan"))
            is_name = isinstance(distribution, CategoricalDistribution) and isinstance(value, str)
            found.append(float(distribution.choices.index(value) if is_name else value))  # type: ignore[attr-defined]
        return tuple(found)


Proposer = Callable[[SeenTrials, int], Point]  # and a seed


class WorldFits:
    """Fits of a world, each ready as soon as it is asked for."""

    def __init__(
        self,
        instance: Instance,
        trials: list[SimulatedTrial],
        seed: int,
        seconds: Callable[[int, int], float] | None,
    ) -> None:
        """seconds(number, fold): how long a fit takes; None: 0.8 to 1.2 times what the world says."""
        self.instance, self.trials, self._seconds = instance, trials, seconds
        self.pace = np.random.default_rng([seed, 2])
        self.num_ended = 0

    def curve(self, number: int, fold: int) -> list[float] | None:
        trial = self.trials[number]
        if self.instance.is_too_large(trial.point):
            return None
        trial.curves[fold] = self.instance.curve(number, trial.point, fold)
        result: list[float] = trial.curves[fold].tolist()
        return result

    def seconds(self, number: int, fold: int) -> float:
        if self._seconds:
            return self._seconds(number, fold)
        return self.instance.seconds(self.trials[number].point) * self.pace.uniform(0.8, 1.2)

    def finish(self, number: int, fold: int) -> None:
        self.num_ended += 1
        self.trials[number].scores[fold] = self.instance.fit(number, self.trials[number].point, fold)

    def abandon(self, number: int, fold: int) -> None:
        self.num_ended += 1


class MemoryState:
    """Scores and verdicts of simulated trials in memory; an `engine.State`."""

    def __init__(
        self,
        race: Race,
        fits: WorldFits,
        space: Sequence[BaseDistribution],
        predict: Callable[[SeenTrials], NDArray[np.float64]] | None = None,
    ) -> None:
        """predict: of points with scores the values by which they are ranked; None: their own scores."""
        self.race, self.fits, self.trials, self.space, self.predict = race, fits, fits.trials, space, predict
        self.curves = Finished()
        self.log = Verdicts()
        self.verdicts = self.log.latest
        self.cut: set[int] = set()  # trials that were stopped within a fit
        self.is_ranked = True
        self.time_left: Callable[[], float | None] = lambda: None  # share of the budget

    def observe(self, number: int, fold: int) -> None:
        self.curves.append(Curve(self.trials[number].curves[fold].tolist(), self.num_epochs(number)))
        self.race.see(number, self.trials[number].scores)
        self.is_ranked = False

    def rank(self) -> None:
        """Rank by predictions, once there are more fits than three a parameter."""
        if self.is_ranked:
            return
        self.is_ranked = True
        if self.predict is None or self.fits.num_ended <= 3 * len(self.space):
            return
        done = [n for n in range(len(self.trials)) if self.trials[n].scores or n in self.cut]
        self.race.predict(dict(zip(done, self.predict(self.seen(done)).tolist(), strict=True)))

    def record(self, number: int, verdict: Verdict) -> None:
        self.log.add(number, tuple(sorted(self.trials[number].scores)), verdict)

    def record_cut(self, number: int, verdict: Verdict) -> None:
        self.cut.add(number)
        self.record(number, verdict)

    def missing(self, number: int) -> list[int]:
        return [fold for fold in range(self.race.board.num_folds) if fold not in self.trials[number].scores]

    def unjudged(self, number: int) -> list[int]:
        judged = self.log.folds.get(number, ())
        return [fold for fold in sorted(self.trials[number].scores) if fold not in judged]

    def is_judged(self, number: int) -> bool:
        return number in self.verdicts and not self.unjudged(number)

    def reached(self, number: int) -> dict[int, float]:
        trial = self.trials[number]
        return {fold: float(trial.curves[fold].max()) for fold in trial.scores}

    def num_epochs(self, number: int) -> int:
        return self.fits.instance.world.num_epochs

    def lacking(self, number: int, folds: Iterable[int] | None = None) -> list[str]:
        missing = self.missing(number)
        return [f"{number}/{fold}" for fold in missing if folds is None or fold in folds]

    def infeasible(self, number: int) -> Verdict | None:
        """Always None: a world has no constraints."""
        return None

    def leave(self, number: int) -> None:
        self.race.exclude(number)

    def value(self, number: int) -> float:
        """Estimate of the Dice of a trial, as a proposer sees it; nan before a fit is finished or cut."""
        if self.trials[number].scores:
            return self.race.estimate(number)
        verdict = self.verdicts[number] if number in self.cut else None
        if verdict is None or verdict.against is None or (away := expected_difference(verdict)) is None:
            return float("nan")
        return self.race.estimate(verdict.against) + away

    def seen(self, numbers: Sequence[int]) -> SeenTrials:
        """Points, estimates and folds of these trials."""
        values = np.array([self.value(number) for number in numbers])
        failed = np.array([self.trials[number].state == "failed" for number in numbers], dtype=np.bool_)
        known = values[np.isfinite(values)]
        values[failed] = known.min() if len(known) else 0.0
        return SeenTrials(
            np.array([self.trials[number].point for number in numbers]),
            values,
            np.array([max(1, len(self.trials[number].scores)) for number in numbers], dtype=np.float64),
            failed,
            self.space,
            self.fits.instance.names,
            np.array([self._seconds(number) for number in numbers]),
            self.time_left(),
            self._by_fold(numbers),
        )

    def _by_fold(self, numbers: Sequence[int]) -> NDArray[np.float64]:
        found = np.full((len(numbers), self.race.board.num_folds), np.nan)
        for row, number in zip(found, numbers, strict=True):
            for fold, dice in self.race.board.by_fold(number).items():
                row[fold] = dice
        return found

    def _seconds(self, number: int) -> float:
        trial = self.trials[number]
        return self.fits.instance.seconds(trial.point) if trial.scores else float("nan")


class MemoryTrials:
    """Simulated trials in memory, an `engine.TrialStore`. The first ones are given, as baselines are."""

    def __init__(self, state: MemoryState, first: Sequence[Point], propose: Proposer, seed: int) -> None:
        self.state, self.trials = state, state.trials
        self.first, self.propose, self.seed = first, propose, seed
        self.end: Mapping[str, Any] | None = None

    @property
    def num_begun(self) -> int:
        return len(self.trials)

    def open(self) -> list[int]:
        return [number for number, trial in enumerate(self.trials) if trial.state == "open"]

    def reopen(self, number: int) -> None:
        """Do nothing: in memory no visit is lost."""

    def begin(self) -> int:
        number = len(self.trials)
        seen = self.state.seen(range(number))
        is_given = number < len(self.first)
        point = self.first[number] if is_given else self.propose(seen, self.seed * 10_007 + number)
        self.trials.append(SimulatedTrial(point))
        return number

    def complete(self, number: int) -> None:
        self.trials[number].state = "complete"

    def stop(self, number: int, reason: str) -> None:
        self.trials[number].state = "stopped"

    def fail(self, number: int) -> str | None:
        self.trials[number].state = "failed"
        return "memory does not suffice"

    def shown(self) -> list[ShownTrial]:
        numbers = range(len(self.trials))
        seen = self.state.seen(numbers)
        return [
            ShownTrial(seen.params(point), seen.named, float(value), int(folds))
            for point, value, folds in zip(seen.points.tolist(), seen.values, seen.folds, strict=True)
            if np.isfinite(value)
        ]

    def recorded_end(self) -> Mapping[str, Any] | None:
        return self.end

    def record_end(self, end: Mapping[str, Any]) -> None:
        self.end = end
