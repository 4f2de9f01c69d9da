"""What a study will cost on some hardware, before it starts: a few steps are measured, the rest is simulated.

A fit's time follows from measured images a second, for the worker's share of the global batch; the exchange of
gradients between workers is computed. The study is then simulated by the engine itself, with lanes and failures, in a
world with a known best (simulated/worlds.py), whose configurations take as long as those that were measured.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import optuna
import torch
from optuna.samplers import RandomSampler
from optuna.trial import FixedTrial

from orchestrator import models
from orchestrator.data.cache.frames import CachedCases
from orchestrator.data.splits.split_file import SplitPlan
from orchestrator.search.choices import RuleName
from orchestrator.search.race.rules import Race
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.search.significance import ComparedTrial, all_against
from orchestrator.search.simulated.lanes import SimulatedLanes
from orchestrator.search.simulated.memory import Seen
from orchestrator.search.simulated.study import SimulatedStudy
from orchestrator.search.simulated.worlds import World
from orchestrator.search.space.space import Configuration, SearchSpace
from orchestrator.training.batch_memory import Memory
from orchestrator.training.fit import run_fit
from orchestrator.training.memory import within_memory
from orchestrator.training.optimization.weight_averaging import first_averaged
from orchestrator.training.recipe import FitSpec, Recipe

STEPS = 5  # of training that are timed, after as many to warm up
VALIDATED = 8  # images
START_S = 15.0  # until a lane takes its first fit
RESTART_S = 20.0  # until one whose worker died goes on
BANDWIDTH = 10e9  # bytes a second between two GPUs of one machine, of which all-reduce uses all
REPETITIONS = 20  # of a simulated study
NEAR = 0.1  # of the range of a parameter


@dataclass(frozen=True)
class Speed:
    """How fast one worker is with one configuration: {its share of the global batch: images a second}."""

    training: dict[int, float]
    validation: float  # images a second
    gradient_bytes: int

    def fit_seconds(self, spec: FitSpec, width: int) -> float:
        """Seconds for all epochs of the recipe, because patience cannot be foreseen, and the scoring at the end."""
        recipe = spec.recipe
        steps = len(spec.train) // recipe.batch_size
        step = recipe.batch_size / width / self._rate(recipe.batch_size // width)
        exchange = 2 * (width - 1) / width * self.gradient_bytes / BANDWIDTH
        scoring = len(spec.val) / width / self.validation
        statistics = steps * recipe.batch_size / width / self.validation  # of BatchNorm, for averaged weights
        return (
            recipe.epochs * (steps * (step + exchange) + scoring)
            + scoring
            + _num_averaged(recipe) * statistics
        )

    def like(self, measured: Speed) -> Speed:
        """The shares that were measured of another configuration, in proportion to the one that both have."""
        common = next(iter(self.training))
        factor = self.training[common] / measured._rate(common)
        return replace(self, training={share: rate * factor for share, rate in measured.training.items()})

    def _rate(self, share: int) -> float:
        """Images a second at the nearest share that was measured."""
        return self.training[min(self.training, key=lambda known: abs(known - share))]


@dataclass(frozen=True)
class Forecast:
    """A study at one width: medians of simulated studies, and their range where it matters."""

    width: int
    num_lanes: int
    fits: int
    gpu_hours: float
    hours: float
    hours_range: tuple[float, float]


def measure(
    configuration: Configuration,
    plan: SplitPlan,
    cases: CachedCases,
    device: torch.device,
    shares: Sequence[int],
    loader_workers: int = 0,
) -> Speed:
    """Time a few steps of a configuration with these shares of its batch, on the images of its first fold.

    A share that exceeds the memory is trained in parts, as in a fit. Raises `FitFailed` as a fit does.
    """
    spec = fold_specs(configuration, plan)[0]
    training, validation = {}, 0.0
    for share in shares:
        few = spec.model_copy(
            update={
                "recipe": spec.recipe.model_copy(
                    update={
                        "batch_size": share,
                        "epochs": 2,
                        "warmup_epochs": 0,
                        "freeze_epochs": 0,
                        "sampling": "cases",  # a few cases may be of one class
                        "patience": 0,
                        "weight_averaging": "none",  # not in every epoch
                    }
                ),
                "train": spec.train[: STEPS * share],
                "val": spec.val[:VALIDATED],
            }
        )
        rows: list[dict[str, float]] = []

        def keep(row: dict[str, float], rows: list[dict[str, float]] = rows) -> bool:
            rows.append(row)
            return row["epoch"] == 0  # what is timed is not scored

        with tempfile.TemporaryDirectory() as folder:
            within_memory(
                Memory(Path(folder)),
                {"share": share},
                share,
                device,
                lambda at_a_time, few=few, folder=folder, keep=keep: run_fit(  # type: ignore[misc]
                    few,
                    cases,
                    Path(folder),
                    device=device,
                    report=keep,
                    loader_workers=loader_workers,
                    micro_batch=at_a_time,
                ),
                smallest=models.smallest_batch(configuration.network),
            )
        training[share] = rows[-1]["images_per_second"]
        seconds = rows[-1]["seconds"] - len(few.train) / training[share]
        validation = max(validation, len(few.val) / max(seconds, 1e-6))
    with torch.device("meta"):
        network = models.build(configuration.network, **_without_weights(configuration))
    num_bytes = sum(p.numel() * p.element_size() for p in network.parameters() if p.requires_grad)
    return Speed(training, validation, num_bytes)


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


def _num_averaged(recipe: Recipe) -> int:
    """After how many epochs the mean of the weights is taken."""
    if recipe.weight_averaging == "none":
        return 0
    return recipe.epochs - first_averaged(recipe)


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


def propose_nearby(seen: Seen, seed: int) -> tuple[float, ...]:
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


def _without_weights(configuration: Configuration) -> dict[str, object]:
    offline = {"pretrained": False, "weights": None}
    known = models.params(configuration.network)
    return {**configuration.network_params, **{key: value for key, value in offline.items() if key in known}}
