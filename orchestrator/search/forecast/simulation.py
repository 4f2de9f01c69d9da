"""Studies without training: the engine's loop in a world with a known best.

The same race, the same cuts within a fit, and samplers that are shown the same estimates. Time passes epoch by epoch.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from orchestrator.search.forecast.simulated_samplers import Point, Proposer, Seen, beliefs
from orchestrator.search.forecast.worlds import Instance
from orchestrator.search.race.early_stopping import Curve, Finished, cut, lead_of
from orchestrator.search.race.rules import Everything, Race, Verdict


@dataclass
class SimulatedTrial:
    """What the study knows of one point."""

    point: Point
    scores: dict[int, NDArray[np.float64]] = field(default_factory=dict)  # of finished fits
    curves: dict[int, NDArray[np.float64]] = field(default_factory=dict)  # of all that were begun
    state: str = "running"  # running, paused, stopped, complete
    cut: Verdict | None = None  # the one that ended it within a fit


@dataclass(frozen=True)
class Outcome:
    """A study when it had used so many fits, and who it would name then."""

    fits: int  # begun; those that were cut too
    epochs: int
    chosen: int
    regret: float  # of the chosen setting, Dice
    num_configurations: int
    best_was_stopped: bool  # the truly best of all settings tried was stopped for good
    best_was_cut: bool  # within a fit


class Study:
    """The engine's loop on an instance: lanes take fits, the race judges, the sampler is shown estimates."""

    def __init__(
        self,
        instance: Instance,
        race: Race,
        ask: Proposer,
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
        self.configurations: list[SimulatedTrial] = []
        # of every fit in flight: when its epoch ends, setting, fold, which epoch, how long each takes
        self.running: list[tuple[float, int, int, int, float]] = []
        self.queue: deque[tuple[int, int]] = deque()  # fits that wait for a lane: setting, fold
        self.wants_new = True  # settings
        self.epochs = 0
        self.finished = Finished()
        self.speed = np.random.default_rng([seed, 2])

    def run(self, budgets: Sequence[int]) -> list[Outcome]:
        """At each budget of fits: stop asking, finish what is in flight, give the finalists their folds, choose."""
        outcomes = []
        for budget in sorted(budgets):
            self._advance(lambda budget=budget: self.fits + self.num_in_flight < budget)  # type: ignore[misc]
            outcomes.append(deepcopy(self)._finish())
        return outcomes

    def run_configurations(self, num_configurations: int) -> Outcome:
        """Try so many settings, then give the finalists their folds, on all lanes, and choose."""
        self._advance(lambda: len(self.configurations) < num_configurations)
        return self._finish(may_go=True)

    def train_again(self, numbers: Sequence[int]) -> None:
        """All folds of these settings once more, on all lanes, as finalists are before one is named."""
        free = [self.clock] * self.lanes
        for number in numbers:
            for fold in range(self.instance.world.num_folds):
                taken = self._duration(number, fold)
                heapq.heapreplace(free, free[0] + taken)
                self.fits, self.busy = self.fits + 1, self.busy + taken
        self.clock = max(free)

    @property
    def num_in_flight(self) -> int:
        """Fits, those that wait for a lane too."""
        return len(self.running) + len(self.queue)

    def _advance(self, has_room: Callable[[], bool]) -> None:
        while True:
            self._fill(has_room)
            if not has_room():
                return
            self._step(may_go=True)

    def _finish(self, may_go: bool = False) -> Outcome:
        """may_go: whether those in flight may have more folds."""
        self.wants_new = False
        self._fill(lambda: True)
        while self.running:
            self._step(may_go)
            self._fill(lambda: True)
        return self._outcome()

    def _fill(self, has_room: Callable[[], bool]) -> None:
        """Give every idle lane a fit: one that waits, else the first of whoever is next."""
        while len(self.running) < self.lanes and (self.queue or (has_room() and self._start())):
            self._run_fold(*self.queue.popleft())

    def _start(self) -> bool:
        """Ask for folds of somebody recalled, or of a new setting."""
        paused = [n for n, configuration in enumerate(self.configurations) if configuration.state == "paused"]
        number = self.race.recall(paused, self.wants_new)
        if number is None:
            if not self.wants_new:
                return False
            number = len(self.configurations)
            self.configurations.append(SimulatedTrial(self._ask()))
        self._visit(number)
        return True

    def _visit(self, number: int) -> None:
        """Ask for as many folds of a setting as the engine would (searcher.py)."""
        configuration = self.configurations[number]
        configuration.state = "running"
        missing = [fold for fold in range(self.instance.world.num_folds) if fold not in configuration.scores]
        if number > 0 and not isinstance(self.race.rule, Everything):
            idle = 0 if self.wants_new else self.lanes - len({number, *self._visited()})
            missing = missing[: max(1, idle)]
        self.queue.extend((number, fold) for fold in missing)

    def _visited(self) -> list[int]:
        """The setting of every fit in flight."""
        return [number for number, _ in self.queue] + [number for _, number, *_ in self.running]

    def _run_fold(self, number: int, fold: int) -> None:
        configuration = self.configurations[number]
        configuration.curves[fold] = self.instance.curve(number, configuration.point, fold)
        pace = self._duration(number, fold) / self.instance.world.num_epochs
        heapq.heappush(self.running, (self.clock + pace, number, fold, 1, pace))

    def _duration(self, number: int, fold: int) -> float:
        return self.duration(number, fold) if self.duration else self.speed.uniform(0.8, 1.2)

    def _step(self, may_go: bool) -> None:
        """The epoch that ends next: its fit goes on, is cut, or is finished."""
        self.clock, number, fold, epoch, pace = heapq.heappop(self.running)
        self.epochs, self.busy = self.epochs + 1, self.busy + pace
        if epoch == self.instance.world.num_epochs:
            self._land(number, fold, may_go)
        elif verdict := self._hopeless(number, fold, epoch):
            self.fits += 1
            self.configurations[number].cut = verdict
            self._stop(number)
        else:
            heapq.heappush(self.running, (self.clock + pace, number, fold, epoch + 1, pace))

    def _hopeless(self, number: int, fold: int, epoch: int) -> Verdict | None:
        """As race.py asks of every epoch."""
        incumbent = self.race.incumbent
        if number in (0, incumbent) or incumbent is None or isinstance(self.race.rule, Everything):
            return None
        if fold not in self.configurations[incumbent].scores:
            return None
        told = self.configurations[number].curves[fold][:epoch].tolist()
        own, others = self._best_dice(number), self._best_dice(incumbent)
        lead = lead_of(own, others, fold, self.race.board.num_images)
        return cut(Curve(told, self.instance.world.num_epochs), self.finished, others[fold], incumbent, lead)

    def _best_dice(self, number: int) -> dict[int, float]:
        """Of the best epoch on every finished fold."""
        configuration = self.configurations[number]
        return {fold: float(configuration.curves[fold].max()) for fold in configuration.scores}

    def _land(self, number: int, fold: int, may_go: bool) -> None:
        """Take in a finished fit; a setting without others in flight goes on, waits, or is over."""
        configuration = self.configurations[number]
        configuration.scores[fold] = self.instance.fit(number, configuration.point, fold)
        self.finished.append(Curve(configuration.curves[fold].tolist(), self.instance.world.num_epochs))
        self.fits += 1
        self.race.see(number, configuration.scores)
        if self.believes and self.fits > 3 * self.instance.world.num_parameters:
            self._believe()
        action = self.race.judge(number).action
        if len(configuration.scores) == self.instance.world.num_folds:
            configuration.state = "complete"
        elif action == "stop":
            self._stop(number)
        elif number not in self._visited():
            configuration.state = "paused"
            if action == "go" and may_go:
                self._visit(number)

    def _stop(self, number: int) -> None:
        """For good, and with it what it has in flight."""
        self.configurations[number].state = "stopped"
        self.fits += sum(one[1] == number for one in self.running)
        self.running = [one for one in self.running if one[1] != number]
        heapq.heapify(self.running)
        self.queue = deque(one for one in self.queue if one[0] != number)

    def _believe(self) -> None:
        """Of settings with a finished fit, as the engine does."""
        seen, done = (
            self._seen(),
            [n for n, configuration in enumerate(self.configurations) if configuration.scores],
        )
        seen = replace(seen, points=seen.points[done], values=seen.values[done], folds=seen.folds[done])
        self.race.believe(dict(zip(done, beliefs(seen).tolist(), strict=True)))

    def _ask(self) -> Point:
        """The next point: the first is given, as a paper's setting is."""
        return (
            self.ask(self._seen(), self.seed * 10_007 + len(self.configurations))
            if self.configurations
            else self.instance.first
        )

    def _seen(self) -> Seen:
        """All settings with what the race makes of them by now."""
        points = np.array([configuration.point for configuration in self.configurations])
        folds = np.array(
            [max(1, len(configuration.scores)) for configuration in self.configurations], dtype=np.float64
        )
        values = np.array([self._value(number) for number in range(len(self.configurations))])
        return Seen(points, values, folds, self.instance.space)

    def _value(self, number: int) -> float:
        """What samplers are shown of a setting; nan before it shows anything."""
        configuration = self.configurations[number]
        if configuration.scores:
            return self.race.estimate(number)
        if configuration.cut is None or configuration.cut.against is None:
            return float("nan")
        numbers = configuration.cut.numbers
        return self.race.estimate(configuration.cut.against) + numbers["best_dice"] - numbers["target"]

    def _outcome(self) -> Outcome:
        regrets = [self.instance.regret(configuration.point) for configuration in self.configurations]
        chosen = self.race.incumbent  # as the engine names it: by its score
        assert chosen is not None
        best = self.configurations[int(np.argmin(regrets))]
        return Outcome(
            fits=self.fits,
            epochs=self.epochs,
            chosen=chosen,
            regret=regrets[chosen],
            num_configurations=len(self.configurations),
            best_was_stopped=best.state == "stopped",
            best_was_cut=best.cut is not None,
        )
