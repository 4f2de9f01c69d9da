"""How many workers a fit gets where there are several GPUs: as many as let the study end soonest. Knows no Ray.

A lane times a few steps once, with every share of the batch that a worker could get. The result stays in the folder of
the study: a resumed study measures nothing, unless more GPUs allow wider fits. Width does not change what is learnt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator import models
from orchestrator.common.display import counted
from orchestrator.search.choices import RuleName
from orchestrator.search.forecast.plan import forecast, seconds_of_fits, widths_of, world_of
from orchestrator.search.forecast.time_job import TimeJob, read_speeds
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.training.recipe import FitSpec

NUM_DRAWN = 2  # configurations that are timed besides the baseline
NUM_TRIALS = 40  # that are forecast where the budget counts something else
REPETITIONS = 10  # of the simulated study
CLOSE = 0.05  # a wider fit must end the study earlier by more than this share: narrow ones waste less


@dataclass(frozen=True)
class WidthChoice:
    """How many workers a fit gets, and a line that says why."""

    width: int
    why: str


def possible_widths(batch_sizes: Mapping[str, Sequence[int]], at_most: int) -> tuple[int, ...]:
    """Widths that divide every batch evenly and leave each worker the images its network needs; 1 is the first.

    batch_sizes: of each network those that its trials can have.
    """
    fewest = {network: models.smallest_batch(network) for network in batch_sizes}
    return tuple(
        width
        for width in widths_of([size for sizes in batch_sizes.values() for size in sizes], at_most)
        if width == 1 or all(min(sizes) // width >= fewest[one] for one, sizes in batch_sizes.items())
    )


def choose_width(
    job: TimeJob,
    *,
    num_gpus: int,
    max_lanes: int | None,
    num_trials: int | None,
    race: RuleName,
    rescore: int,
    num_parameters: int,
) -> WidthChoice:
    """The narrowest width whose study ends about as soon as any, by the measurements of the job."""
    first, *others = read_speeds(job.file)
    if isinstance(first, str):
        return WidthChoice(1, f"1 worker per fit: the baseline could not be timed, {first}")
    timed = [(first, job.configurations[0])]
    timed += [
        (speed, configuration)
        for speed, configuration in zip(others, job.configurations[1:], strict=True)
        if not isinstance(speed, str)
    ]
    speeds = [speed for speed, _ in timed]
    specs = [fold_specs(configuration, job.plan)[0] for _, configuration in timed]
    trials = num_trials or NUM_TRIALS
    hours = {}
    for width in job.widths:
        lanes = num_gpus // width
        hours[width] = forecast(
            seconds_of_fits(speeds, specs, width),
            width=width,
            num_lanes=min(lanes, max_lanes or lanes),
            num_trials=trials,
            race=race,
            rescore=rescore,
            world=world_of(job.plan, num_parameters),
            repetitions=REPETITIONS,
        ).hours
    enough = min(hours.values()) * (1 + CLOSE)
    chosen = next(width for width in job.widths if hours[width] <= enough)
    forecasts = ", ".join(f"{value:.3g} h with {width}" for width, value in hours.items())
    return WidthChoice(
        chosen,
        f"{counted(chosen, 'worker')} per fit: on {counted(num_gpus, 'GPU')} {trials} trials are forecast to take "
        f"{forecasts}, by {len(timed)} that were timed for a few steps",
    )


def quickest(file: Path, spec: FitSpec, widths: Sequence[int]) -> int:
    """The width that ends one fit soonest, by the measurements for its study; the widest without any."""
    first = read_speeds(file)[0] if file.exists() else ""
    if isinstance(first, str):
        return max(widths)
    return min(widths, key=lambda width: (first.fit_seconds(spec, width), width))
