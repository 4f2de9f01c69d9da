"""Whether a plan comes true: a small study is forecast from a few timed steps, then run.

    python tests/benchmarks/plan_check.py                                   # a quarter of an hour on two cores
    python tests/benchmarks/plan_check.py --trials 4 --epochs 3 --seeds 0 --json

For each seed and each race a lane first times a few steps of three settings, as a study on several GPUs does
(search/width.py), and the study is played through (search/plan.py); then `run_study` trains it with the same lanes, on
drawn polyps. Compared are fits, the time inside training, and wall time from the start of the lanes to the champion.
A narrow U-Net, two image sizes, so that settings differ in what they cost; no patience, which no plan foresees.

Nothing is asserted about time; a study that ends without a champion raises `RuntimeError`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import ray
from rich.console import Console
from rich.table import Table

from orchestrator.data.cases import Dataset
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.data.splits.plan import make_plan
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.ray_cluster.machine import Machine, cluster, shape_lanes
from orchestrator.search.choices import RuleName
from orchestrator.search.fit_jobs import FitJobRunner
from orchestrator.search.forecast.plan import (
    Forecast,
    forecast,
    seconds_of_fits,
    some_configurations,
    world_of,
)
from orchestrator.search.forecast.speed import Speed
from orchestrator.search.forecast.time_job import TimeJob, read_speeds
from orchestrator.search.forecast.width import NUM_DRAWN
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.search.space.space import SearchSpace
from orchestrator.search.space.space_file import parse_space
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.study_spec import StudySpec
from orchestrator.study.run import run_study
from orchestrator.study.runnable_study import RunnableStudy
from orchestrator.study.sinks import ResultSink
from orchestrator.training.ray.lanes import Lanes

SPACE = """
network = "unet"
[search]
learning_rate = {{ log_uniform = [1e-5, 1e-1] }}
image_size = {{ choice = [32, 64] }}
[fixed]
base_channels = 4
batch_size = 4
epochs = {epochs}
patience = 0
[baseline]
learning_rate = 1e-3
image_size = 64
"""


@dataclass(frozen=True)
class Checked:
    """A study as it was forecast, and as it went; hours are wall time, of training the lanes' together."""

    race: RuleName
    seed: int
    forecast: Forecast
    fits: int
    training_s: float
    wall_s: float


class Clock(ResultSink):
    """Times a study from the start of its lanes to its end."""

    def started(self, *_: object) -> None:
        self.begun = time.monotonic()

    def finished(self, champion: object) -> None:
        if champion is None:
            raise RuntimeError("no trial was finished")
        self.wall_s = time.monotonic() - self.begun


def check(
    race: RuleName, seed: int, dataset: Dataset, home: Path, space: SearchSpace, asked: argparse.Namespace
) -> Checked:
    """Forecast a study, then run it."""
    machine = Machine("local", "cpu", workers_per_fit=1, num_lanes=asked.lanes)
    plan = make_plan("five-fold", [dataset], seed=seed)
    store = StudyStore(home, f"{race}-{seed}")
    work = FitJobRunner(home, home / "cache", store.ledger)
    told = foretell(race, plan, space, store, machine, work, asked.trials, seed)
    study = RunnableStudy(
        store,
        space,
        plan,
        (dataset,),
        (),
        StudySpec(trials=asked.trials, seed=seed, race=race, rescore=0),
    )
    clock = Clock()
    run_study(study, machine, work, [clock])
    records = [record for trial in store.trials() for record in trial.records]
    return Checked(race, seed, told, len(records), sum(record.seconds for record in records), clock.wall_s)


def foretell(
    race: RuleName,
    plan: SplitPlan,
    space: SearchSpace,
    study: StudyStore,
    machine: Machine,
    work: FitJobRunner,
    num_trials: int,
    seed: int,
) -> Forecast:
    """Time a few steps in one of as many lanes as there will be, and play the study through."""
    configurations = some_configurations(space, NUM_DRAWN, seed)
    job = TimeJob(study.folder.with_suffix(".speeds.json"), tuple(configurations), plan, (1,))
    with cluster(machine):
        shape = shape_lanes(ray.nodes(), machine)
        with Lanes(work, shape, study.home / "timing") as lanes:
            lanes.run("timing", job)
    speeds = [speed for speed in read_speeds(job.file) if isinstance(speed, Speed)]
    specs = [fold_specs(configuration, plan)[0] for configuration in configurations]
    return forecast(
        seconds_of_fits(speeds, specs, 1),
        width=1,
        num_lanes=shape.num_lanes,
        num_trials=num_trials,
        race=race,
        world=world_of(plan, len(space.search)),
    )


def show(found: Sequence[Checked]) -> None:
    table = Table(title="forecast / actual")
    for head in ("race", "seed", "fits", "training, s", "wall, s", "wall forecast from, to"):
        table.add_column(head, justify="left" if head == "race" else "right")
    for one in found:
        told = one.forecast
        low, high = told.hours_range
        table.add_row(
            one.race,
            str(one.seed),
            f"{told.fits} / {one.fits} = {told.fits / one.fits:.2f}",
            _ratio(told.gpu_hours * 3600, one.training_s),
            _ratio(told.hours * 3600, one.wall_s),
            f"{low * 3600:.0f} to {high * 3600:.0f}",
        )
    Console(width=120).print(table)


def _ratio(forecast_s: float, actual_s: float) -> str:
    return f"{forecast_s:.0f} / {actual_s:.0f} = {forecast_s / actual_s:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Forecasts of small studies, and the studies.")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--lanes", type=int, default=1)
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--races", nargs="+", choices=get_args(RuleName), default=["none", "paired"])
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        draw_dataset(home / "frames", num_cases=asked.cases, size=64)
        dataset = add_dataset(home, "drawn", home / "frames", allow_empty=True)
        space = parse_space(SPACE.format(epochs=asked.epochs))
        found = [
            check(race, seed, dataset, home, space, asked) for seed in asked.seeds for race in asked.races
        ]
    if asked.json:
        print(json.dumps([asdict(one) for one in found], indent=1))
    else:
        show(found)


if __name__ == "__main__":
    main()
