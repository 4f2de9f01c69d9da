"""The loop of a study without training: ours against Tune's own with OptunaSearch, seconds of a configuration.

    python tests/benchmarks/study_loop.py
    python tests/benchmarks/study_loop.py --configurations 200 --rounds 3

Both score a configuration on five folds by the same formula, which takes no time, one at a time on one local Ray.

ours            `run_study` with one lane and no race: every fold is a fit that passes through the lane and is put on
                record, every decision is in the journal, scores go into the CSV files. The sampler is our default.
Tune, function  What Tune's documentation shows: a function, OptunaSearch (TPE), a process for each trial.
Tune, class     The same as a Trainable with `reuse_actors`, the fastest that Tune offers. Neither keeps a record of a
                fold, nor could go on after a kill within a trial: they do less.

Wall time from the first configuration to the last, by the number of configurations. Seconds of the sampler alone as a
study grows are in scale.py.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))

import optuna
import ray
from formula import FormulaJobRunner, formula_study, quality
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from rows import Row, add_rows_option, save_rows, spread

from orchestrator.ray_cluster.machine import Machine
from orchestrator.search.store.trials import StudyTrial
from orchestrator.study.run import run_study
from orchestrator.study.sinks import ResultSink

WAYS = ("ours", "Tune, function", "Tune, class")
SPACE = {"learning_rate": tune.loguniform(1e-5, 1e-1)}


class Clock(ResultSink):
    """When trials ended."""

    def __init__(self) -> None:
        self.ended: list[float] = []

    def trial_finished(self, trial: StudyTrial) -> None:
        self.ended.append(time.perf_counter())


class TuneClock(tune.Callback):
    def __init__(self) -> None:
        self.ended: list[float] = []

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.ended.append(time.perf_counter())


def dice_of_folds(configuration: dict[str, float]) -> float:
    return sum(quality(configuration["learning_rate"]) for _ in range(5)) / 5


def by_function(configuration: dict[str, float]) -> None:
    tune.report({"dice": dice_of_folds(configuration)})


class ByClass(tune.Trainable):
    def setup(self, config: dict[str, float]) -> None:
        self.configuration = config

    def reset_config(self, new_config: dict[str, float]) -> bool:
        self.configuration = new_config
        return True

    def step(self) -> dict[str, Any]:
        return {"dice": dice_of_folds(self.configuration), "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: Tune asks for one at the end of each trial."""


def seconds_each(ended: list[float]) -> float:
    """Between the first end and the last, so that neither start counts."""
    return (ended[-1] - ended[0]) / (len(ended) - 1)


def by_tune(way: str, number: int, folder: Path) -> float:
    clock = TuneClock()
    trainable = by_function if way == "Tune, function" else ByClass
    found = tune.Tuner(
        tune.with_resources(trainable, {"CPU": 1}),
        param_space=SPACE,
        tune_config=tune.TuneConfig(
            metric="dice",
            mode="max",
            search_alg=OptunaSearch(),
            num_samples=number,
            max_concurrent_trials=1,
            reuse_actors=way == "Tune, class",
        ),
        run_config=tune.RunConfig(name="loop", storage_path=str(folder), callbacks=[clock], verbose=0),
    ).fit()
    if found.errors or len(clock.ended) != number:
        raise RuntimeError(f"{way}: {len(clock.ended)} of {number} trials, {found.errors[:1]}")
    return seconds_each(clock.ended)


def by_us(address: str, number: int, folder: Path) -> float:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study, clock = formula_study(folder, num_trials=number).with_options(race="none"), Clock()
    machine = Machine(address=address, device="cpu", workers_per_fit=1, num_lanes=1)
    run_study(study, machine, FormulaJobRunner(study.store.ledger), [clock])
    if len(clock.ended) != number:
        raise RuntimeError(f"ours: {len(clock.ended)} of {number} trials")
    return seconds_each(clock.ended)


def main() -> None:
    parser = argparse.ArgumentParser(description="The loop of a study without training.")
    parser.add_argument("--configurations", type=int, default=30, help="of each way in each round")
    parser.add_argument("--rounds", type=int, default=2)
    add_rows_option(parser)
    options = parser.parse_args()
    if options.configurations < 2:
        parser.error(f"--configurations needs to be 2 or more, found {options.configurations}")
    support = str(Path(__file__).resolve().parent.parent / "support")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [support, os.environ.get("PYTHONPATH", "")]))
    os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"}
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    ray.init("local", num_cpus=3, log_to_driver=False, logging_level=logging.ERROR)
    address, found = ray.get_runtime_context().gcs_address, {way: [] for way in WAYS}
    # A study makes its own connection to Ray, which one process can have only one of.
    child = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    with tempfile.TemporaryDirectory() as scratch, child:
        for number in range(options.rounds):
            for way in WAYS if number % 2 == 0 else reversed(WAYS):
                folder = Path(tempfile.mkdtemp(dir=scratch))
                if way == "ours":
                    taken = child.submit(by_us, address, options.configurations, folder).result()
                else:
                    taken = by_tune(way, options.configurations, folder)
                found[way].append(taken)
                print(
                    f"round {number + 1}, {way}: {taken:.3f} s a configuration", file=sys.stderr, flush=True
                )
    ray.shutdown()
    ours, rows = tuple(found["ours"]), []
    for way in WAYS[1:]:
        what = "loop of a study without training, a configuration of five folds"
        against = f"{way} with OptunaSearch, folds within a trial"
        rows.append(Row(what, against, "s", ours, tuple(found[way]), bound="five fits, each on record"))
        print(
            f"{what}: {spread(ours)} s, {way} {spread(found[way])}, {spread(rows[-1].ratios)} times as fast"
        )
    save_rows(options.rows, rows)


if __name__ == "__main__":
    main()
