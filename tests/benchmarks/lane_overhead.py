"""What it costs to start a fit: warm lanes, and the whole engine around them, against one TorchTrainer per trial.

    make bench
    python tests/benchmarks/lane_overhead.py --widths 1 2 4 --rounds 5 --json

Three ways to run the same fit (a linear layer, two epochs of five steps, one report an epoch; DDP over gloo where there
are two workers or more), side by side on one local Ray, in rounds that alternate their order:

documented    The pattern of Ray's documentation: a Tune function that calls `TorchTrainer.fit` for every trial and
              reports through `TuneReportCallback`, one trial at a time. Tune's own loggers are off.
lanes         `Lanes.run`, one fit after another through one warm lane.
whole engine  `run_study` with one lane: Tune, Optuna, dispatcher, lane, ledger, then the champion's hold-out scores.

Two costs are told apart for each of them:

fixed         Paid once in a study. documented: Tune's start and end. lanes: from nothing to a lane that asks for work,
              and its end. whole engine: both, the searcher and the champion. Ray itself is up before and after.
per fit       The rest of the wall time, less the time inside training, over the number of fits.

"in a study" is what one fit costs with its share of the fixed cost, in a study of `--study-fits` fits. The first steps
of a new process are slow; they count as training here, which favors the documented way: each of its fits has new ones.
The documented way runs fewer fits (`--fits`) than the others (`--study-fits`): each takes seconds, and they are alike.

Nothing is asserted about time; a way that did not train what it was asked to raises `RuntimeError`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import shlex
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))

import ray
import ray.train
import tiny_fit
from formula import formula_study
from ray import tune
from ray.train.torch import TorchConfig, TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback
from rich.console import Console
from rich.table import Table
from rows import Row, add_rows_option, save_rows, spread
from tiny_work import TinyWork

from orchestrator.ray_cluster.machine import Machine, shape_lanes
from orchestrator.search.space.space_file import parse_space
from orchestrator.search.store.trials import StudyTrial
from orchestrator.study.run import run_study
from orchestrator.study.runnable_study import RunnableStudy
from orchestrator.study.sinks import ResultSink
from orchestrator.training.ray.lanes import Lanes, Shape

FOLDS = 5
WAYS = ("documented", "lanes", "whole engine")
TABLE_WIDTH = 150  # a narrower terminal breaks lines, and loses nothing
# The batch size is what a study checks against the width; the fit here does not look at it.
SPACE = """
network = "unet"
[search]
learning_rate = {{ log_uniform = [1e-5, 1e-1] }}
[fixed]
batch_size = {width}
epochs = {epochs}
image_size = 32
[baseline]
learning_rate = 1e-4
"""


@dataclass(frozen=True)
class Measured:
    """One way, once. Seconds; `per_fit` and `inside` are means over the fits."""

    way: str
    width: int
    num_fits: int
    fixed: float
    per_fit: float
    inside: float


@dataclass
class Stopwatch:
    """When fits began and ended, and how long each epoch trained."""

    asked: float = field(default_factory=time.perf_counter)
    first_fit: float = 0.0
    last_fit: float = 0.0
    epochs: list[float] = field(default_factory=list)

    def result(self, way: str, width: int, num_fits: int) -> Measured:
        """Take stock now. Raises `RuntimeError` if the fits were not all trained."""
        ended = time.perf_counter()
        if len(self.epochs) != num_fits * tiny_fit.EPOCHS:
            raise RuntimeError(
                f"{way}: {num_fits * tiny_fit.EPOCHS} epochs expected, {len(self.epochs)} reported"
            )
        inside = sum(self.epochs)
        return Measured(
            way=way,
            width=width,
            num_fits=num_fits,
            fixed=(self.first_fit - self.asked) + (ended - self.last_fit),
            per_fit=(self.last_fit - self.first_fit - inside) / num_fits,
            inside=inside / num_fits,
        )


class TuneStopwatch(tune.Callback):
    """A stopwatch that Tune's loop operates."""

    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch

    def setup(self, **info: Any) -> None:
        self.watch.first_fit = time.perf_counter()

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        self.watch.epochs.append(result["seconds"])

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.watch.last_fit = time.perf_counter()


class StudyStopwatch(ResultSink):
    """A stopwatch that a study operates: it starts where Ray is up, and lanes and Tune are not."""

    def __init__(self) -> None:
        self.watch = Stopwatch()

    def started(self, study: RunnableStudy, shape: Shape) -> None:
        self.watch.asked = time.perf_counter()

    def epochs(self, number: int, fold: int, fit_id: str, rows: list[dict[str, float]]) -> None:
        if (
            rows and not self.watch.epochs
        ):  # Tune is ready before the lane is: only training says that both are
            self.watch.first_fit = time.perf_counter() - rows[0]["seconds"]
        self.watch.epochs.extend(row["seconds"] for row in rows)

    def trial_finished(self, trial: StudyTrial) -> None:
        self.watch.last_fit = time.perf_counter()


def documented_worker() -> None:
    for row in tiny_fit.train():
        ray.train.report(row)


def documented_trial(config: dict[str, Any]) -> None:
    TorchTrainer(
        documented_worker,
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ray.train.ScalingConfig(num_workers=config["width"], resources_per_worker={"CPU": 1}),
        run_config=ray.train.RunConfig(
            name=uuid.uuid4().hex, storage_path=config["storage"], callbacks=[TuneReportCallback()]
        ),
    ).fit()


def documented(width: int, num_fits: int, folder: Path) -> Measured:
    watch = Stopwatch()
    results = tune.Tuner(
        tune.with_resources(documented_trial, {"CPU": 0.1}),
        param_space={"width": width, "storage": str(folder / "train")},
        tune_config=tune.TuneConfig(num_samples=num_fits, max_concurrent_trials=1),
        run_config=tune.RunConfig(
            name="documented", storage_path=str(folder), callbacks=[TuneStopwatch(watch)], verbose=0
        ),
    ).fit()
    if results.errors:
        raise RuntimeError(f"documented: {results.errors[0]}")
    return watch.result("documented", width, num_fits)


def lanes(width: int, num_fits: int, folder: Path) -> Measured:
    watch = Stopwatch()
    shape = shape_lanes(ray.nodes(), Machine(workers_per_fit=width, num_lanes=1))
    with Lanes(tiny_fit.perform, shape, folder) as warm:
        while not ray.get(warm.dispatcher.count.remote())[0]:
            time.sleep(0.01)
        watch.first_fit = time.perf_counter()
        for number in range(num_fits):
            warm.run(
                f"fit-{number}", tiny_fit.TinyFit(number), lambda row: watch.epochs.append(row["seconds"])
            )
        watch.last_fit = time.perf_counter()
    return watch.result("lanes", width, num_fits)


def whole_engine(address: str, width: int, num_fits: int, folder: Path) -> Measured:
    # Without a race every trial trains all its folds, so that the number of fits is known.
    study = formula_study(folder, num_trials=num_fits // FOLDS).with_options(race="none")
    study = replace(study, space=parse_space(SPACE.format(width=width, epochs=tiny_fit.EPOCHS)))
    clock = StudyStopwatch()
    machine = Machine(address=address, device="cpu", workers_per_fit=width, num_lanes=1)
    run_study(study, machine, TinyWork(study.store.ledger), [clock])
    return clock.watch.result("whole engine", width, num_fits)


def measure(options: argparse.Namespace, say: Callable[[str], None]) -> list[list[Measured]]:
    """Return what each round measured. Ray runs for as long as this does."""
    # Ray's workers find the fit's module by this; the documented way is spared Tune's loggers and its banner.
    paths = [str(Path(tiny_fit.__file__).parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    ray.init("local", num_cpus=max(options.widths) + 2, log_to_driver=False, logging_level=logging.ERROR)
    address = ray.get_runtime_context().gcs_address
    # A study makes its own connection to Ray, which one process can have only one of.
    child = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    rounds = []
    with tempfile.TemporaryDirectory() as scratch, child:

        def run(way: str, width: int) -> Measured:
            folder = Path(tempfile.mkdtemp(dir=scratch))
            if way == "documented":
                return documented(width, options.fits, folder)
            if way == "lanes":
                return lanes(width, options.study_fits, folder)
            return child.submit(whole_engine, address, width, options.study_fits, folder).result()

        for number in range(options.rounds):
            rounds.append([])
            for width in options.widths:
                for way in WAYS if number % 2 == 0 else reversed(WAYS):
                    rounds[-1].append(run(way, width))
                    say(f"round {number + 1}/{options.rounds}: {_describe(rounds[-1][-1])}")
    ray.shutdown()
    return rounds


def _describe(one: Measured) -> str:
    return (
        f"{one.way}, {one.width} wide, {one.num_fits} fits: fixed {one.fixed:.2f} s, "
        f"per fit {one.per_fit:.3f} s, inside training {one.inside:.3f} s"
    )


def table(rounds: Sequence[Sequence[Measured]], study_fits: int) -> Table:
    """Median (min to max) over rounds. A ratio is the documented way's cost over this way's, in the same round."""
    drawn = Table("workers", "way")
    for heading in ("fixed", "per fit", "ratio", f"in a study of {study_fits}", "ratio", "inside training"):
        drawn.add_column(heading, justify="right", no_wrap=True)

    def in_study(one: Measured) -> float:
        return one.fixed / study_fits + one.per_fit

    for width in sorted({one.width for one in rounds[0]}):
        found = [{one.way: one for one in ones if one.width == width} for ones in rounds]
        for way in WAYS:
            drawn.add_row(
                str(width),
                way,
                spread([ones[way].fixed for ones in found]),
                spread([ones[way].per_fit for ones in found]),
                spread([ones["documented"].per_fit / ones[way].per_fit for ones in found]),
                spread([in_study(ones[way]) for ones in found]),
                spread([in_study(ones["documented"]) / in_study(ones[way]) for ones in found]),
                spread([ones[way].inside for ones in found]),
            )
        drawn.add_section()
    return drawn


def bench_rows(rounds: Sequence[Sequence[Measured]]) -> list[Row]:
    """Seconds of a fit beyond its training."""
    rows = []
    for width in sorted({one.width for one in rounds[0]}):
        found = [{one.way: one.per_fit for one in ones if one.width == width} for ones in rounds]
        theirs = tuple(ones["documented"] for ones in found)
        for way in WAYS[1:]:
            what = f"overhead of a fit of {width} workers, {way}"
            bound = "messages between Ray's processes" if way == "lanes" else "Tune's loop and the journal"
            ours = tuple(ones[way] for ones in found)
            rows.append(
                Row(what, "a Tune function that calls TorchTrainer.fit", "s", ours, theirs, bound=bound)
            )
    return rows


def surroundings() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load": os.getloadavg()[0],
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("ray", "torch", "optuna")},
        "command": shlex.join(["python", *sys.argv]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Overhead per fit: warm lanes against one TorchTrainer per trial."
    )
    parser.add_argument("--fits", type=int, default=2, help="fits a round of the documented way")
    parser.add_argument(
        "--study-fits", type=int, default=30, help="fits a round of the others; a multiple of 5"
    )
    parser.add_argument("--rounds", type=int, default=2, help="more for figures to quote")
    parser.add_argument("--widths", type=int, nargs="+", default=[1, 2, 4], help="workers per fit")
    parser.add_argument("--json", action="store_true", help="every measurement, for programs")
    add_rows_option(parser)
    options = parser.parse_args()
    if options.study_fits < FOLDS or options.study_fits % FOLDS:
        parser.error(f"--study-fits needs a positive multiple of {FOLDS}, found {options.study_fits}")
    if min(options.fits, options.rounds, *options.widths) < 1:
        parser.error("--fits, --rounds and --widths need to be 1 or more")

    options.widths = sorted(set(options.widths))

    around = surroundings()
    rounds = measure(options, say=lambda line: print(line, file=sys.stderr, flush=True))
    save_rows(options.rows, bench_rows(rounds))
    if options.json:
        print(json.dumps({**around, "rounds": [[asdict(one) for one in ones] for ones in rounds]}, indent=1))
        return
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.width = max(console.width, TABLE_WIDTH)
    console.print(
        f"Overhead in seconds: median (min to max) of {options.rounds} rounds; ratio: documented / this way"
    )
    console.print(table(rounds, options.study_fits))
    versions = ", ".join(f"{name} {number}" for name, number in around["versions"].items())
    console.print(
        f"{around['machine']} (load {around['load']:.1f} at the start), {versions}", highlight=False
    )
    console.print(around["command"], highlight=False)


if __name__ == "__main__":
    main()
