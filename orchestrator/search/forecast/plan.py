"""Forecast of a study's cost on some hardware, before it starts: a few steps are timed, the rest simulated.

A fit's time follows from what `speed.py` measures. The study is then simulated by the engine itself, with lanes and
failures, in a world with a known best (simulated/worlds.py), whose configurations take as long as those measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import optuna
from optuna.samplers import RandomSampler
from optuna.trial import FixedTrial

from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.search.choices import RuleName
from orchestrator.search.forecast.speed import Speed
from orchestrator.search.race.rules import Race
from orchestrator.search.significance import ComparedTrial, all_against
from orchestrator.search.simulated.lanes import SimulatedLanes
from orchestrator.search.simulated.memory import SeenTrials
from orchestrator.search.simulated.study import SimulatedStudy
from orchestrator.search.simulated.worlds import World
from orchestrator.search.space.space import Configuration, SearchSpace
from orchestrator.training.recipe import FitSpec

START_S = 15.0  # until a lane takes its first fit
RESTART_S = 20.0  # until one whose worker died goes on
REPETITIONS = 20  # of a simulated study
NEAR = 0.1  # of the range of a parameter


@dataclass(frozen=True)
class Forecast:
    """A study at one width: medians of simulated studies, and their range where it matters."""

    width: int
    num_lanes: int
    fits: int
    gpu_hours: float
    hours: float
    hours_range: tuple[float, float]


def seconds_of_fits(speeds: Sequence[Speed], specs: Sequence[FitSpec], width: int) -> list[float]:
    """How long fits take at some width; all shares were measured of the first configuration, some of the others."""
    return [speed.like(speeds[0]).fit_seconds(spec, width) for speed, spec in zip(speeds, specs, strict=True)]


def forecast(
    fit_seconds: Sequence[float],
    *,
    width: int,
    num_lanes: int,
    num_trials: int,
    race: RuleName,
    world: World,
    rescore: int = 0,
    nested: int = 0,
    num_epochs: int = 60,
    failures_per_hour: float = 0.0,
    gpus_per_worker: float = 1.0,
    repetitions: int = REPETITIONS,
) -> Forecast:
    """Simulate a study; a configuration takes as long as one of `fit_seconds`, drawn at random.

    rescore: finalists, at most, that are re-evaluated. nested: outer folds, each with a study of its own before, which
    trains on fewer cases. failures_per_hour: of one lane; a fit goes on from its last epoch, of num_epochs, after
    `RESTART_S`.
    """

    def play(seconds: Sequence[float], seed: int) -> SimulatedLanes:
        instance, rng = world.draw(seed), np.random.default_rng([seed, 5])
        of_configuration = rng.choice(np.asarray(seconds, dtype=np.float64), num_trials)

        def duration(number: int, fold: int) -> float:
            whole = float(of_configuration[number])
            failures = rng.poisson(failures_per_hour * whole / 3600)
            return whole + failures * (RESTART_S + whole / num_epochs / 2)

        race_of = Race(race, instance.groups)
        study = SimulatedStudy(
            instance, race_of, propose_nearby, lanes=num_lanes, seed=seed, seconds=duration
        )
        study.lanes.clock = START_S
        study.run_trials(num_trials)
        if rescore > 1 and len(again := _finalists(study, rescore)) > 1:
            study.lanes.repeat((number, fold) for number in again for fold in range(world.num_folds))
        return study.lanes

    inner = [seconds * (nested - 1) / nested for seconds in fit_seconds] if nested else []
    played = [
        [play(fit_seconds, seed), *(play(inner, repetitions + seed * nested + k) for k in range(nested))]
        for seed in range(repetitions)
    ]
    hours = [sum(lanes.clock for lanes in studies) / 3600 for studies in played]
    busy = float(np.median([sum(lanes.busy for lanes in studies) for studies in played])) / 3600
    return Forecast(
        width=width,
        num_lanes=num_lanes,
        fits=int(np.median([sum(lanes.num_fits for lanes in studies) for studies in played])),
        gpu_hours=busy * width * gpus_per_worker,
        hours=float(np.median(hours)),
        hours_range=(min(hours), max(hours)),
    )


def _finalists(study: SimulatedStudy, most: int) -> list[int]:
    """Trials to re-evaluate: the winner and those not significantly different from it, the best first."""
    num_folds = study.instance.world.num_folds
    complete = [number for number, trial in enumerate(study.trials) if len(trial.scores) == num_folds]
    ranked = sorted(complete, key=lambda number: -study.race.board.mean(number))
    winner, *others = [_compared(study, number) for number in ranked]
    groups = [group for fold in study.instance.groups for group in fold]
    against = all_against(winner, others, groups, 1 / (num_folds - 1) if num_folds > 1 else None)
    return [winner.number, *(one.other for one in against if not one.is_sure)][:most]


def _compared(study: SimulatedStudy, number: int) -> ComparedTrial:
    scores = [values for _, values in sorted(study.trials[number].scores.items())]
    return ComparedTrial(number, np.concatenate(scores), tuple(float(values.mean()) for values in scores))


def propose_nearby(seen: SeenTrials, seed: int) -> tuple[float, ...]:
    """Half of the time at random, else near the best so far: it converges as samplers do, at no cost."""
    rng = np.random.default_rng([seed, 7])
    num_parameters = seen.points.shape[1]
    if rng.random() < 0.5 or not np.isfinite(seen.values).any():
        return tuple(rng.random((num_parameters,)).tolist())
    best = seen.points[np.nanargmax(seen.values)]
    return tuple(np.clip(best + rng.normal(0, NEAR, (num_parameters,)), 0, 1).tolist())


def some_configurations(space: SearchSpace, num_drawn: int, seed: int) -> list[Configuration]:
    """The baseline of every network, and some configurations drawn at random."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=RandomSampler(seed=seed))
    drawn = [space.sample(study.ask()) for _ in range(num_drawn)]
    baselines = [space.sample(FixedTrial(dict(params))) for params in space.baselines]
    return [space.configuration(params) for params in (*baselines, *drawn)]


def widths_of(batch_sizes: Sequence[int], num_gpus: int) -> list[int]:
    """Widths that divide every batch size evenly."""
    return [width for width in range(1, num_gpus + 1) if all(size % width == 0 for size in batch_sizes)]


def world_of(plan: SplitPlan, num_parameters: int) -> World:
    """A world of the size of this study's split."""
    images = max(2 * len(plan.folds), sum(len(fold.val) for fold in plan.folds))
    sequences = max(2 * len(plan.folds), images // 8)
    return replace(
        World("this study"),
        num_parameters=max(1, num_parameters),
        num_sequences=sequences,
        sequence_length=max(1, images // sequences),
        num_folds=len(plan.folds),
    )
