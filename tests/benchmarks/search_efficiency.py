"""How much training a search needs on real images: ours, against what one would write today, and the best samplers.

    python tests/benchmarks/search_efficiency.py                    # an hour and more on two cores
    python tests/benchmarks/search_efficiency.py --trials 6 --seeds 0 --epochs 3 --cases 60
    python tests/benchmarks/search_efficiency.py --no-trainers      # a third of it: epochs alone are comparable
    python tests/benchmarks/search_efficiency.py --ways ours botorch --out ways.jsonl    # goes on where it was
    python tests/benchmarks/search_efficiency.py --no-trainers --device cuda --lanes 2 --at-once 6 \
        --channels 8 16 32 --sizes 64 96 128 --cases 400 --trials 40    # one GPU, 16 cores

plain   The documented way: a Tune function that trains the five folds of a configuration to the end, one after another,
        each by a `TorchTrainer` of its own, and reports their mean Dice; Tune's OptunaSearch suggests learning rate,
        width of the network, image size and threshold. With --no-trainers its fits are trained in the Tune function
        itself: the same epochs, without what the trainers cost.
ours    `run_study`: the same space, but thresholds are swept and configurations race. It has half the epochs that plain
        trains in all (--part).

The rest, as strong as we can make them, are studies of ours without the race, so every configuration has five folds,
with swept thresholds, the baseline first, two random configurations a parameter, and all the epochs:

no race   our sampler
gp        Optuna's Gaussian process
botorch   BoTorch's noisy expected improvement, its noise known from the folds (needs botorch; one lane)

All train as many fits at a time (--lanes), and are the same in everything else: fits (this project's training), split,
data, seeds, one machine. They alternate, or --at-once so many of them run beside each other: then their seconds hang on
who else was still at work, and their epochs do not. Real images of Kvasir-SEG where POLYP_DATA (default
../shared/data/polyps) has them, else drawn ones. The goal is the other's final cross-validated Dice less 0.005. What is
compared is what each had spent, in epochs and in seconds, when a configuration with all five folds first reached it.
The other may reach it long before its end, by luck even at once, but nobody knows then that it has: its end stands
beside. Held-out Dice is of the winner's median fold network. A line of --out is a finished search, which is not
repeated; a file with other options is refused.

Seen on Kvasir-SEG (`--no-trainers --at-once 2 --trials 40 --part 0.35 --cases 400 --epochs 8 --sizes 32 48
--channels 4 6 8`; seed 2 in a run of its own), plain first, ours second:

    seed   epochs until the goal            of all 1600   final Dice       held-out Dice, 40 images
    0      40 (its first), 256              6.3 times     0.501, 0.533     0.474, 0.470
    1      1600 (its last), 197             8.1 times     0.544, 0.560     0.537, 0.556
    2      200 (its fifth), 179             8.9 times     0.538, 0.545     0.478, 0.482

Against BoTorch (`--no-trainers --at-once 2 --ways ours botorch --trials 20 --part 0.5 --cases 400 --epochs 8 --sizes 32
48 --channels 4 6 8`), BoTorch first, ours second:

    seed   epochs until the goal            of all 800    final Dice       held-out Dice, 40 images
    0      400, 260: 1.5 times              3.1 times     0.538, 0.544     0.483, 0.478
    1      280, 240: 1.2 times              3.3 times     0.530, 0.530     0.511, 0.500
    2      640, 192: 3.3 times              4.2 times     0.541, 0.547     0.527, 0.506

With trainers (`--trials 4 --epochs 4 --cases 150 --part 1 --at-once 2`): the whole of plain took 599, 612 and 491 s,
ours 41, 40 and 47 s until the goal: 14.7 times less (10.4 to 15.4), of plain's first arrival 7.7 times (7.4 to 15.4).
A fit by a trainer takes 25 to 30 s there, of which it trains for three. It is a small study: the paper's
configuration, with which ours begins, was better than all four that plain drew, so nothing had to be searched.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))

import optuna
import ray
import ray.train
import torch
from botorch_search import BoTorchSampler
from ray import tune
from ray.train.torch import TorchConfig, TorchTrainer
from ray.tune.search.optuna import OptunaSearch
from rich.console import Console
from rich.table import Table

from orchestrator.common.allocator import KEEP_FREED_MEMORY
from orchestrator.data.cases import Dataset
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.data.splits.plan import make_plan
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.ray_cluster.machine import Machine
from orchestrator.scoring.mask_choice import MaskChoice
from orchestrator.scoring.pending_cases import scores_under
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.search.fit_jobs import FitJobRunner
from orchestrator.search.forecast.time_job import TimeJob
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.records.ledger import Ledger
from orchestrator.search.records.trial_score import fold_specs, score_trial
from orchestrator.search.samplers.registry import SAMPLERS
from orchestrator.search.samplers.sampler_kind import SamplerKind
from orchestrator.search.score_job import ScoreJob
from orchestrator.search.space.space import SearchSpace
from orchestrator.search.space.space_file import parse_space
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.store.trials import StudyTrial, champion_fit, finished_score
from orchestrator.search.study_spec import StudySpec
from orchestrator.study.run import run_study
from orchestrator.study.runnable_study import RunnableStudy
from orchestrator.study.sinks import ResultSink
from orchestrator.training.fit import Report
from orchestrator.training.process import configure_process
from orchestrator.training.ray.lanes import Shape
from orchestrator.training.recipe import FitSpec

POLYPS = Path(
    os.environ.get("POLYP_DATA", Path(__file__).resolve().parents[3] / "shared" / "data" / "polyps")
)
WITHIN = 0.005  # of Dice
NUM_FOLDS = 5
SPACE = """
network = "unet"
[search]
learning_rate = {{ log_uniform = [1e-4, 3e-2] }}
base_channels = {{ choice = {channels} }}
image_size = {{ choice = {sizes} }}
{threshold}
[fixed]
epochs = {epochs}
batch_size = {batch}
augmentation = "flips"
[baseline]
learning_rate = 1e-3
base_channels = {middle_channels}
image_size = {middle_size}
{baseline}
"""
# Rule of the race and sampler of those that our engine runs.
ENGINE_WAYS = {
    "ours": ("paired", "surrogate"),
    "no race": ("none", "surrogate"),
    "gp": ("none", "optuna:GPSampler(n_startup_trials=6)"),
    "botorch": ("none", "botorch"),
}
SWEPT = ("threshold = { sweep = [0.05, 0.95] }", "")
SAMPLED = ("threshold = { uniform = [0.05, 0.95] }", "threshold = 0.5")


@dataclass
class Way:
    """One way, one seed: (epochs, seconds, Dice) at the end of every configuration that has all folds."""

    name: str
    seed: int
    reached: list[tuple[int, float, float]] = field(default_factory=list)
    epochs: int = 0
    fits: int = 0
    held_out: float = 0.0  # Dice of the winner on cases that no search saw

    def reach(self, seconds: float, dice: float) -> None:
        """Another configuration has all folds."""
        self.reached.append((self.epochs, seconds, dice))
        says = f"{self.name}, seed {self.seed}: {len(self.reached)} configurations with all folds "
        says += f"after {self.fits} fits, "
        says += f"{self.epochs} epochs, {seconds:.0f} s: {dice:.4f}, best {self.best:.4f}"
        print(says, file=sys.stderr, flush=True)

    @property
    def best(self) -> float:
        return max(dice for _, _, dice in self.reached)

    @property
    def end(self) -> tuple[int, float]:
        """Epochs and seconds of all its configurations."""
        return self.reached[-1][:2]

    def spent(self, goal: float) -> tuple[int, float] | None:
        """Epochs and seconds when a configuration first had this Dice; None: never."""
        return next(((epochs, seconds) for epochs, seconds, dice in self.reached if dice >= goal), None)


def space_of(kind: tuple[str, str], options: argparse.Namespace) -> SearchSpace:
    channels, sizes = options.channels, options.sizes
    text = SPACE.format(
        threshold=kind[0],
        baseline=kind[1],
        epochs=options.epochs,
        batch=options.batch,
        channels=channels,
        sizes=sizes,
        middle_channels=channels[len(channels) // 2],
        middle_size=sizes[len(sizes) // 2],
    )
    return parse_space(text)


def prepare(home: Path, num_cases: int) -> Dataset:
    """The images that all searches share."""
    source = POLYPS / "Kvasir-SEG"
    if not source.is_dir():
        draw_dataset(home / "frames", num_cases=num_cases, size=96)
        groups = home / "frames" / "groups.csv"
        return add_dataset(home, "frames", home / "frames", groups=groups, allow_empty=True)
    for kind in ("images", "masks"):
        (home / "frames" / kind).mkdir(parents=True)
        for path in sorted((source / kind).iterdir())[:num_cases]:
            (home / "frames" / kind / path.name).symlink_to(path)
    return add_dataset(home, "frames", home / "frames")


@dataclass(frozen=True)
class OneThread:
    """Does what `FitJobRunner` does, in the calling thread alone."""

    work: FitJobRunner

    def __call__(
        self, job: FitSpec | ScoreJob | TimeJob, device: torch.device, loader_workers: int, report: Report
    ) -> bool:
        configure_process(1)
        return self.work(job, device, 0, report)


def train_fold(config: dict[str, Any]) -> None:
    """What runs on the worker of a documented fit."""

    def report(row: dict[str, float]) -> bool:
        ray.train.report(row)
        return True

    OneThread(config["work"])(config["spec"], torch.device(config["device"]), 0, report)


def by_trainer(work: FitJobRunner, spec: FitSpec, storage: str, device: str, share: float) -> None:
    TorchTrainer(
        train_fold,
        train_loop_config={"work": work, "spec": spec, "device": device},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=1, use_gpu=device == "cuda", resources_per_worker=resources(device, share)
        ),
        run_config=ray.train.RunConfig(name=f"{time.time_ns()}", storage_path=storage),
    ).fit()


def by_itself(work: FitJobRunner, spec: FitSpec, storage: str, device: str, share: float) -> None:
    OneThread(work)(spec, torch.device(device), 0, lambda row: True)


def resources(device: str, share: float) -> dict[str, float]:
    """Of one fit: a core, and its part of a GPU."""
    return {"CPU": 1, "GPU": share} if device == "cuda" else {"CPU": 1}


def plain_trial(
    config: dict[str, Any],
    *,
    space: SearchSpace,
    plan: SplitPlan,
    work: FitJobRunner,
    storage: str,
    device: str,
    share: float,
    train: Callable[[FitJobRunner, FitSpec, str, str, float], None],
) -> None:
    configuration = space.configuration({**space.fixed, **config})
    records = []
    for spec in fold_specs(configuration, plan):
        train(work, spec, storage, device, share)
        records.append(work.ledger.read(spec.fit_id))
    tune.report({"dice": score_trial(records, configuration).metrics["dice"]})


@dataclass(frozen=True)
class Draw:
    """A space as Tune's OptunaSearch takes it."""

    space: SearchSpace

    def __call__(self, trial: optuna.Trial) -> dict[str, Any]:
        self.space.sample(trial)
        return {"network": "unet"}


class Clock(tune.Callback):
    """Notes when a configuration is done, and what was spent until then."""

    def __init__(self, way: Way, ledger: Ledger) -> None:
        self.way, self.ledger, self.begun = way, ledger, time.monotonic()

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        self.way.epochs, self.way.fits = spent_in(self.ledger)
        self.way.reach(time.monotonic() - self.begun, result["dice"])


def spent_in(ledger: Ledger) -> tuple[int, int]:
    """Epochs and fits on record."""
    curves = [json.loads(path.read_text())["curves"] for path in ledger.fits.glob("*/record.json")]
    return sum(map(len, curves)), len(curves)


def plain(seed: int, home: Path, dataset: Dataset, options: argparse.Namespace) -> Way:
    ray.init("local", num_cpus=2 * options.lanes, log_to_driver=False, logging_level=logging.ERROR)
    way, space = Way("plain", seed), space_of(SAMPLED, options)
    plan, ledger = make_plan("five-fold", [dataset], seed=seed), Ledger(home / f"plain-{seed}")
    work = FitJobRunner(home, home / "cache", ledger)

    clock = Clock(way, ledger)
    found = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(
                plain_trial,
                space=space,
                plan=plan,
                work=work,
                storage=str(home / "train"),
                device=options.device,
                share=1 / options.fits_at_once,
                train=by_itself if options.no_trainers else by_trainer,
            ),
            resources(options.device, 1 / options.fits_at_once) if options.no_trainers else {"CPU": 0.1},
        ),
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(
                space=Draw(space), metric="dice", mode="max", sampler=optuna.samplers.TPESampler(seed=seed)
            ),
            num_samples=options.trials,
            max_concurrent_trials=options.lanes,
        ),
        run_config=tune.RunConfig(name=f"plain-{seed}", storage_path=str(home), callbacks=[clock], verbose=0),
    ).fit()
    if found.errors:
        raise RuntimeError(f"plain: {found.errors[0]}")
    best = max(found, key=lambda result: result.metrics["dice"])
    configuration = space.configuration({**space.fixed, **(best.config or {})})
    records = [ledger.read(spec.fit_id) for spec in fold_specs(configuration, plan)]
    masks = score_trial(records, configuration).masks
    middle = sorted(records, key=lambda record: scores_under(record.histograms, masks)["dice"].mean())
    way.held_out = on_held_out(work, middle[len(middle) // 2].fit_id, plan, masks)
    ray.shutdown()
    return way


def on_held_out(work: FitJobRunner, fit_id: str, plan: SplitPlan, masks: PostProcess) -> float:
    work(ScoreJob(fit_id, "test", plan.datasets, plan.test), torch.device("cpu"), 0, lambda row: True)
    return float(scores_under(work.ledger.read_scores(fit_id, plan.test).histograms, masks)["dice"].mean())


class Curve(ResultSink):
    """Adds to a `Way` what a study of ours reaches, and when."""

    def __init__(self, way: Way) -> None:
        self.way, self.begun = way, time.monotonic()

    def started(self, study: RunnableStudy, shape: Shape) -> None:
        self.begun = time.monotonic()  # Ray runs, as it does when plain begins

    def epochs(self, number: int, fold: int, fit_id: str, rows: list[dict[str, float]]) -> None:
        self.way.epochs += len(rows)

    def fold_finished(self, number: int, fold: int, record: FitRecord, masks: MaskChoice) -> None:
        self.way.fits += 1

    def trial_finished(self, trial: StudyTrial) -> None:
        if (score := trial.score()) is not None:
            self.way.reach(time.monotonic() - self.begun, score.metrics["dice"])


def by_engine(name: str, seed: int, home: Path, dataset: Dataset, options: argparse.Namespace) -> Way:
    way, (race, sampler) = Way(name, seed), ENGINE_WAYS[name]
    store = StudyStore(home, f"{name.replace(' ', '-')}-{seed}")
    part = options.part if name == "ours" else 1
    study = RunnableStudy(
        store=store,
        space=space_of(SWEPT, options),
        plan=make_plan("five-fold", [dataset], seed=seed),
        datasets=(dataset,),
        unseen=(),
        spec=StudySpec(
            epochs=int(part * options.trials * NUM_FOLDS * options.epochs),
            seed=seed,
            rescore=0,
            race=race,
            sampler=sampler,
        ),
    )
    work = FitJobRunner(home, home / "cache", store.ledger)
    machine = Machine(
        "local", options.device, 1, options.lanes, options.fits_at_once if options.device == "cuda" else 1
    )
    champion = run_study(study, machine, OneThread(work), [Curve(way)])
    assert champion is not None
    masks = finished_score(champion).masks
    way.held_out = store.outside_scores(champion_fit(champion).fit_id, masks)["test"]["dice"]
    return way


def prepare_process() -> None:
    """Workers of Ray cannot import what a child process calls its main module; no study knows BoTorch's sampler."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    known = cast(dict[str, SamplerKind], SAMPLERS)
    known["botorch"] = SamplerKind(lambda seed, _: BoTorchSampler(seed), for_several_objectives=False)


def search(name: str, seed: int, home: Path, dataset: Dataset, options: argparse.Namespace) -> Way:
    if name == "plain":
        return plain(seed, home, dataset, options)
    return by_engine(name, seed, home, dataset, options)


def measure(options: argparse.Namespace) -> list[Way]:
    os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"}
    os.environ |= {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"} | KEEP_FREED_MEMORY  # for all ways
    found = {(way.name, way.seed): way for way in ways_in(options)}
    # One process and one Ray each: searches that share a Ray would wait for each other's cores.
    processes = ProcessPoolExecutor(
        options.at_once, get_context("spawn"), prepare_process, max_tasks_per_child=1
    )
    with tempfile.TemporaryDirectory() as scratch, processes:
        home = Path(scratch)
        dataset = prepare(home, options.cases)
        asked: list[Future[Way]] = []
        for seed in options.seeds:
            for name in options.ways if seed % 2 else reversed(options.ways):
                if (name, seed) not in found:
                    asked.append(processes.submit(search, name, seed, home, dataset, options))
        try:
            for future in as_completed(asked):
                keep(future.result(), found, options)
        finally:
            processes.shutdown(cancel_futures=True)  # one has failed: no other is begun
    return [found[name, seed] for seed in options.seeds for name in options.ways]


def keep(way: Way, found: dict[tuple[str, int], Way], options: argparse.Namespace) -> None:
    """Add a finished search to what is found and to the file."""
    found[way.name, way.seed] = way
    if options.out:
        with options.out.open("a") as file:
            file.write(json.dumps(asdict(way) | {"asked": asked_for(options)}) + "\n")
    says = f"{way.name}, seed {way.seed}: over; held-out Dice {way.held_out:.4f}"
    print(says, file=sys.stderr, flush=True)


def asked_for(options: argparse.Namespace) -> dict[str, Any]:
    """The options on which a search depends, but its seed."""
    return {
        name: value
        for name, value in vars(options).items()
        if name not in ("ways", "out", "seeds", "at_once", "fits_at_once", "json")
    }


def ways_in(options: argparse.Namespace) -> list[Way]:
    """Searches that are finished, all with these options. Raises `ValueError` if the file has others."""
    if options.out is None or not options.out.exists():
        return []
    lines = [json.loads(line) for line in options.out.read_text().splitlines()]
    if any(line.pop("asked") != asked_for(options) for line in lines):
        raise ValueError(f"{options.out} has searches with other options; name another file")
    return [Way(**line) for line in lines]


def table(ways: list[Way]) -> Table:
    drawn = Table(
        "way", "seed", "goal", title="until the goal: the other, the whole of it, ours", title_justify="left"
    )
    heads = ("epochs", "ratios", "seconds", "ratios", "final Dice", "held-out Dice", "fits in all")
    for head in heads:
        drawn.add_column(head, justify="right", no_wrap=True)
    ours = {way.seed: way for way in ways if way.name == "ours"}
    for name in dict.fromkeys(way.name for way in ways if way.name != "ours"):
        ratios: list[tuple[float, ...]] = []
        for one in (way for way in ways if way.name == name):
            other = ours[one.seed]
            goal = one.best - WITHIN
            before, after = one.spent(goal), other.spent(goal)
            cells = ["never"] * 4
            if before and after:
                cells, found = [], []
                for first, whole, last in zip(before, one.end, after, strict=True):  # epochs, then seconds
                    found += [first / last, whole / last]
                    cells += [
                        f"{first:.0f}, {whole:.0f}, {last:.0f}",
                        f"{first / last:.1f}, {whole / last:.1f}",
                    ]
                ratios.append(tuple(found))
            drawn.add_row(
                name,
                str(one.seed),
                f"{goal:.4f}",
                *cells,
                f"{one.best:.4f}, {other.best:.4f}",
                f"{one.held_out:.4f}, {other.held_out:.4f}",
                f"{one.fits}, {other.fits}",
            )
        if ratios:
            columns = [_spread(column) for column in zip(*ratios, strict=True)]
            drawn.add_row(name, "first", "median", "", columns[0], "", columns[2], "", "", "")
            drawn.add_row(name, "whole", "median", "", columns[1], "", columns[3], "", "", "")
        drawn.add_section()
    return drawn


def _spread(values: tuple[float, ...]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description="Training until a goal: plain Tune + Optuna, and ours.")
    parser.add_argument(
        "--ways",
        nargs="+",
        choices=["plain", *ENGINE_WAYS],
        default=["plain", "ours"],
        help="ours among them",
    )
    parser.add_argument(
        "--out", type=Path, help="every finished search as a line of JSON; run again, it goes on"
    )
    parser.add_argument("--trials", type=int, default=16, help="configurations that plain tries")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10, help="of a fit")
    parser.add_argument("--cases", type=int, default=150, help="images")
    parser.add_argument(
        "--channels", type=int, nargs="+", default=[4, 6, 8], help="of the first level, a choice"
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[32, 48, 64], help="of images, in pixels, a choice"
    )
    parser.add_argument("--batch", type=int, default=8, help="images a step")
    parser.add_argument("--part", type=float, default=0.5, help="of the epochs of plain that ours has")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--lanes", type=int, default=1, help="fits at a time, of one search")
    parser.add_argument("--at-once", type=int, default=1, help="searches at a time")
    parser.add_argument("--no-trainers", action="store_true", help="plain without trainers: compare epochs")
    parser.add_argument("--json", action="store_true", help="every measurement, for programs")
    options = parser.parse_args()
    if "ours" not in options.ways:
        parser.error("--ways needs ours among them, with which the others are compared")
    if "botorch" in options.ways:
        try:
            import_module("botorch.models")
        except ImportError as missing:
            parser.error(f"--ways botorch: {missing}; pip install botorch")
    options.fits_at_once = options.lanes * options.at_once
    ways = measure(options)
    if options.json:
        print(json.dumps([asdict(way) for way in ways], indent=1))
        return
    Console(width=170).print(table(ways))


if __name__ == "__main__":
    main()
