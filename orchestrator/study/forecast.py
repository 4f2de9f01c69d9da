"""Forecast of the cost of a study before it starts: a few steps are timed here, whole studies simulated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from orchestrator.common.display import Display
from orchestrator.common.errors import BadMachine
from orchestrator.data.cache.frames import cached_cases
from orchestrator.data.cases import Dataset
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.search.forecast.plan import (
    Forecast,
    forecast,
    seconds_of_fits,
    some_configurations,
    world_of,
)
from orchestrator.search.forecast.speed import Speed, measure
from orchestrator.search.forecast.width import possible_widths
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.search.space.scalars import is_number, is_whole
from orchestrator.search.space.space import Configuration, SearchSpace
from orchestrator.search.study_spec import PLANNED_TRIALS, StudySpec
from orchestrator.study.checks import batch_sizes
from orchestrator.study.loading import DataChoice
from orchestrator.training.process import configure_process


@dataclass(frozen=True)
class StudyForecast:
    """Fits, GPU-hours and hours of a study, without a race and with its own, at every possible width."""

    split: SplitPlan
    race: str
    device: str  # the one that was timed
    rows: tuple[tuple[str, Forecast], ...]  # (race, forecast)
    fit_seconds: Mapping[str, float]  # network -> seconds of a fit of its baseline on one device

    @property
    def soonest(self) -> Forecast:
        """The forecast of fewest hours, with the study's own race."""
        return min((one for race, one in self.rows if race == self.race), key=lambda one: one.hours)


def forecast_study(
    space: SearchSpace,
    choice: DataChoice,
    spec: StudySpec,
    device: torch.device,
    *,
    gpus: int,
    sampled: int = 4,
    failures: float = 0.0,
    display: Display,
) -> StudyForecast:
    """Time the baselines and `sampled` further configurations on `device`, then simulate the study on `gpus` of it.

    A specification without a number of trials is simulated with `PLANNED_TRIALS`. `failures`: deaths of workers per
    lane and hour. Takes minutes; nothing is trained to its end. Raises `BadMachine` for numbers that cannot be.
    """
    _refuse(gpus, sampled, failures)
    sources, _, split = choice.load(display)
    widths = possible_widths(batch_sizes(space), gpus)
    configurations = some_configurations(space, sampled, spec.seed)
    speeds = _speeds(configurations, split, sources, choice, device, widths, display)
    specs = [fold_specs(configuration, split)[0] for configuration in configurations]
    rows = tuple(
        (
            rule,
            forecast(
                seconds_of_fits(speeds, specs, width),
                width=width,
                num_lanes=gpus // width,
                num_trials=spec.trials or PLANNED_TRIALS,
                race=rule,
                world=world_of(split, space.num_searched),
                rescore=spec.rescore,
                nested=spec.nested or 0,
                num_epochs=configurations[0].recipe.epochs,
                failures_per_hour=failures,
            ),
        )
        for rule in dict.fromkeys(("none", spec.chosen_race))
        for width in widths
    )
    seconds: dict[str, float] = {}
    for configuration, value in zip(configurations, seconds_of_fits(speeds, specs, 1), strict=True):
        seconds.setdefault(configuration.network, value)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return StudyForecast(split, spec.chosen_race, name, rows, seconds)


def _refuse(gpus: int, sampled: int, failures: float) -> None:
    problems = [
        f"{name}: expected {expected}, found {value}"
        for name, value, expected, is_right in (
            ("gpus", gpus, "a whole number of at least 1", is_whole(gpus) and gpus >= 1),
            ("sampled", sampled, "a whole number of at least 0", is_whole(sampled) and sampled >= 0),
            (
                "failures",
                failures,
                "a finite number of at least 0",
                is_number(failures) and 0 <= failures < math.inf,
            ),
        )
        if not is_right
    ]
    if problems:
        raise BadMachine("forecast", problems)


def _speeds(
    configurations: Sequence[Configuration],
    split: SplitPlan,
    sources: Sequence[Dataset],
    choice: DataChoice,
    device: torch.device,
    widths: Sequence[int],
    display: Display,
) -> list[Speed]:
    """How fast each configuration trains on this device; the first with the batches of every width."""
    configure_process()
    speeds: list[Speed] = []
    with display.bar("timing") as on_progress:
        for done, configuration in enumerate(configurations, start=1):
            cases = cached_cases(sources, configuration.recipe.image_size, choice.cache_folder)
            shares = sorted({configuration.recipe.batch_size // width for width in widths})
            speeds.append(measure(configuration, split, cases, device, shares if done == 1 else shares[-1:]))
            on_progress(done, len(configurations))
    return speeds
