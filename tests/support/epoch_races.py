"""Races over epochs, as users of Optuna, Syne Tune and NePS run them, in simulated worlds without choices.

A configuration is trained on its folds at once and judged by the mean of their validation Dice: it stops early, or
pauses and goes on later. As many epochs as a whole fit has count as one fit. Where configurations are judged on one
fold, the best five get the others at the end.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import optuna
import torch
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from orchestrator.search.simulated.study import Outcome
from orchestrator.search.simulated.worlds import Instance, Point

LEAST_EPOCHS, REDUCTION = 3, 3  # of 30: a configuration is judged after 3, 9 or 10, and 27 epochs


@dataclass
class EpochStudy:
    """The configurations of a study in a world, and for how many epochs each is trained on the first folds."""

    instance: Instance
    num_folds: int  # that a configuration is trained on before the end
    num_finalists: int  # that are trained to their end on all folds
    points: list[Point] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    spent: int = 0  # epochs of single folds
    # Of every configuration the mean over its folds, (E,).
    _curves: list[np.ndarray] = field(default_factory=list)

    def begin(self, point: Sequence[float]) -> int:
        """Add a configuration that is not yet trained; its number."""
        number = len(self.points)
        self.points.append(tuple(point))
        self.epochs.append(0)
        folds = range(self.num_folds)
        curve = np.mean([self.instance.curve(number, self.points[number], fold) for fold in folds], axis=0)
        curve[-1] = self._mean_dice(number, self.num_folds)
        self._curves.append(curve)
        return number

    def train(self, number: int, epochs: int) -> float:
        """Train a configuration on, up to that many epochs in all; its validation Dice after them."""
        self.spent += self.num_folds * max(0, epochs - self.epochs[number])
        self.epochs[number] = max(epochs, self.epochs[number])
        return self.dice(number, epochs)

    def dice(self, number: int, epochs: int) -> float:
        """Validation Dice of a configuration after so many of its epochs, from 1."""
        return float(self._curves[number][epochs - 1])

    def outcome(self) -> Outcome:
        """What is chosen if no other configuration is begun; the finalists' missing epochs count."""
        num_epochs, all_folds = self.instance.world.num_epochs, self.instance.world.num_folds
        numbers = range(len(self.points))
        finalists = sorted(numbers, key=self._reached, reverse=True)[: self.num_finalists]
        lacking = [num_epochs * all_folds - self.num_folds * self.epochs[number] for number in finalists]
        epochs = self.spent + sum(lacking)
        chosen = max(finalists, key=lambda number: self._mean_dice(number, all_folds))
        regrets = [self.instance.regret(point) for point in self.points]
        best = int(np.argmin(regrets))
        is_stopped = self.epochs[best] < num_epochs and best not in finalists
        return Outcome(
            fits=round(epochs / num_epochs),
            epochs=epochs,
            seconds=epochs / num_epochs,
            chosen=chosen,
            regret=regrets[chosen],
            regret_by_score=regrets[chosen],
            least_regret=regrets[best],
            num_configurations=len(self.points),
            best_was_stopped=is_stopped,
            best_was_cut=is_stopped,
        )

    def _reached(self, number: int) -> tuple[int, float]:
        epochs = self.epochs[number]
        return epochs, self.dice(number, epochs) if epochs else 0.0

    def _mean_dice(self, number: int, num_folds: int) -> float:
        fits = [self.instance.fit(number, self.points[number], fold) for fold in range(num_folds)]
        return float(np.mean([dice.mean() for dice in fits]))


Steps = Callable[[EpochStudy, int], Iterator[None]]  # trains a little at every step, without end; and a seed


@dataclass(frozen=True)
class EpochWay:
    """A way to search that judges configurations within their training."""

    steps: Steps
    num_folds: int
    num_finalists: int
    budgets: tuple[int, ...]  # fits

    def search(self, instance: Instance, seed: int) -> list[Outcome]:
        """One study, seen at every budget of fits."""
        study = EpochStudy(instance, self.num_folds, self.num_finalists)
        steps, outcomes = self.steps(study, seed), []
        for budget in sorted(self.budgets):
            while study.spent < budget * instance.world.num_epochs:
                next(steps)
            outcomes.append(study.outcome())
        return outcomes


def with_optuna(
    make_sampler: Callable[[int, int], BaseSampler], make_pruner: Callable[[int], BasePruner]
) -> Steps:
    """A study of Optuna; make_sampler(seed, number of parameters), make_pruner(epochs of a fit)."""

    def steps(study: EpochStudy, seed: int) -> Iterator[None]:
        instance, num_epochs = study.instance, study.instance.world.num_epochs
        space = dict(zip(instance.names, instance.space, strict=True))
        asked = optuna.create_study(
            study_name=str(seed),  # by which HyperBand chooses brackets
            direction="maximize",
            sampler=make_sampler(seed, len(space)),
            pruner=make_pruner(num_epochs),
        )
        for point in instance.baselines:
            asked.enqueue_trial(dict(zip(instance.names, point, strict=True)))
        while True:
            trial = asked.ask(space)
            number = study.begin([trial.params[name] for name in instance.names])
            for epoch in range(1, num_epochs + 1):
                dice = study.train(number, epoch)
                trial.report(dice, epoch)
                yield
                if epoch == num_epochs:
                    asked.tell(trial, dice)
                elif trial.should_prune():
                    asked.tell(trial, state=TrialState.PRUNED)
                    break

    return steps


def with_promotions(study: EpochStudy, seed: int) -> Iterator[None]:
    """Asynchronous successive halving that pauses and promotes (Li et al., MLSys 2020), on random configurations.

    A configuration goes on to the next rung once it is in the best third of those that have reached its own.
    """
    instance, rng = study.instance, np.random.default_rng([seed, 4])
    rungs = [LEAST_EPOCHS]
    while rungs[-1] * REDUCTION < instance.world.num_epochs:
        rungs.append(rungs[-1] * REDUCTION)
    rungs[-1] = instance.world.num_epochs
    first = list(instance.baselines)
    while True:
        for rung, following in reversed([*pairwise(rungs)]):
            there = [number for number, epochs in enumerate(study.epochs) if epochs >= rung]
            there.sort(key=lambda number, rung=rung: study.dice(number, rung), reverse=True)
            promoted = [n for n in there[: len(there) // REDUCTION] if study.epochs[n] == rung]
            if promoted:
                study.train(promoted[0], following)
                break
        else:
            point = first.pop(0) if first else rng.random(instance.world.num_parameters)
            study.train(study.begin(point), rungs[0])
        yield


def with_priorband(study: EpochStudy, seed: int) -> Iterator[None]:
    """PriorBand (Mallik et al., NeurIPS 2023) of NePS 0.17; its prior is the baseline, which it tries first.

    Needs the package neural-pipeline-search.
    """
    import neps

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    instance = study.instance
    (prior,) = instance.baselines
    space = neps.SearchSpace(
        {
            name: neps.HPOFloat(0.0, 1.0, prior=value, prior_confidence="medium")
            for name, value in zip(instance.names, prior, strict=True)
        }
        | {"epochs": neps.HPOInteger(LEAST_EPOCHS, instance.world.num_epochs, is_fidelity=True)}
    )
    asked = neps.AskAndTell(neps.algorithms.priorband(space, eta=REDUCTION, sample_prior_first=True))
    numbers: dict[str, int] = {}  # by their name in NePS, without the rung
    while True:
        trial = asked.ask()
        configuration = trial.id.split("_rung")[0]
        if configuration not in numbers:
            numbers[configuration] = study.begin([float(trial.config[name]) for name in instance.names])
        asked.tell(trial, -study.train(numbers[configuration], int(trial.config["epochs"])))
        yield
