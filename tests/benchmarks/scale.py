"""What a study's own work costs as it grows: CPU seconds a fit of sampler, race, journal, status, MLflow; memory.

    python tests/benchmarks/scale.py                                          # 200 fits, half a minute
    python tests/benchmarks/scale.py --home /tmp/big --fits 1000 10000 100000 --out scale.json
    python tests/benchmarks/scale.py --home /tmp/big --boards --out scale.json   # leaderboard and status of it

The loop is the real one: engine, searcher, scheduler, race, journal, ledger, verdicts, status and sinks, which have
threads of their own. Four things are not: a formula scores fits in place of training; Tune's controller and its actors,
with the lanes, are left out, so that `Tune` below passes updates as Tune does; MLflow is a client that takes every call
and keeps nothing; and no pictures are drawn, which cost each trial with all its folds the same.

The CPU time is that of the thread that decides, a fit of the last hundred (--window), what is called within a part
taken off it. Between the sizes a study is filled without the loop and without measuring: trials of random
configurations that are stopped after one fold, as most of a raced study are. At each size the study is then resumed
(`start_s`) and goes on for twice the window, of which the second half is measured. --minutes ends a step early.
Nothing is asserted; counts that must not grow are asserted in tests/search/test_scale.py.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))

import optuna
from formula import FormulaJobRunner, histograms, row
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from orchestrator.data.cases import list_datasets, load_dataset
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.data.splits.plan import make_plan
from orchestrator.results.mlflow.runs.study_runs import StudyRuns
from orchestrator.results.mlflow.sink import MlflowSink
from orchestrator.results.sinks.console import ConsoleSink
from orchestrator.results.sinks.csv_files import CsvSink
from orchestrator.search import optuna_trials
from orchestrator.search.budget.gate import BudgetGate
from orchestrator.search.engine import LaneCapacity
from orchestrator.search.progress import monitor as watch_module
from orchestrator.search.progress.monitor import ProgressMonitor
from orchestrator.search.race.rules import Verdict
from orchestrator.search.ray_tune.scheduler import EngineScheduler
from orchestrator.search.ray_tune.searcher import EngineSearcher
from orchestrator.search.records.status import write_status
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.search.space.space_file import parse_space
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.study_spec import StudySpec
from orchestrator.study.events import ReportingCallback
from orchestrator.study.run import _usage, begin, make_engine
from orchestrator.study.runnable_study import RunnableStudy
from orchestrator.study.sinks import AllSinks, ResultSink
from orchestrator.training.recipe import FitSpec

THREADS = "OPENBLAS_NUM_THREADS"
SPACE = parse_space("""
network = "unet"
[search]
learning_rate = { log_uniform = [1e-5, 1e-1] }
weight_decay  = { log_uniform = [1e-6, 1e-2] }
clip_norm     = { uniform = [0.5, 2.0] }
averaging_start = { uniform = [0.0, 0.9] }
loss          = { choice = ["bce_dice", "bce", "dice"] }
[fixed]
weight_averaging = "swa"
batch_size = 2
epochs = 10
image_size = 32
[baseline]
learning_rate = 1e-4
weight_decay = 1e-4
clip_norm = 1.0
averaging_start = 0.75
loss = "bce_dice"
""")


class Meter:
    """CPU seconds by part, each without the parts that it calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self.inner = [0.0]

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self.inner.append(0.0)
        start = time.thread_time()
        try:
            yield
        finally:
            taken = time.thread_time() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + taken - self.inner.pop()
            self.calls[name] = self.calls.get(name, 0) + 1
            self.inner[-1] += taken

    def wrap(self, owner: Any, method: str, name: str) -> None:
        plain = getattr(owner, method)

        def timed(*args: Any, **options: Any) -> Any:
            with self.part(name):
                return plain(*args, **options)

        setattr(owner, method, timed)

    def clear(self) -> None:
        self.seconds.clear()
        self.calls.clear()


class Formula(FormulaJobRunner):
    """Best at a rate of 1e-3, a decay of 1e-4, clipped at 1, averaged from the middle on, with `bce_dice`."""

    def found(self, spec: FitSpec, case_ids: Any) -> Any:
        return super().found(spec, case_ids) * (1 - self.lost(spec))

    def lost(self, spec: FitSpec) -> float:
        recipe = spec.recipe
        away = (recipe.clip_norm - 1) ** 2 + (recipe.averaging_start - 0.5) ** 2
        return min(0.9, 0.2 * away + 0.05 * (recipe.loss != "bce_dice") + 5 * abs(recipe.weight_decay - 1e-4))

    def train(self, spec: FitSpec) -> list[dict[str, float]]:
        """The rows of a fit, which is on record afterwards."""
        dice = float(self.found(spec, spec.val).mean())
        rows = [row(epoch, dice * (1 - 0.5 / (epoch + 1))) for epoch in range(spec.recipe.epochs)]
        if not self.ledger.has(spec.fit_id):
            plain = {"curves": rows, "best_epoch": len(rows) - 1, "seconds": 1.0, "device": "formula"}
            plain |= {"world_size": 1, "case_ids": spec.val, "versions": {}, "inference_ms": 1.0}
            scored = histograms(self.found(spec, spec.val), len(spec.val))
            self.ledger.write(spec, plain, scored, {}, b"weights")
        return rows


class Taking:
    """In place of MLflow's client: takes all, keeps nothing."""

    num_runs = 0

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id="1", lifecycle_stage="active", tags={})

    def search_runs(self, *args: Any, **options: Any) -> Any:
        return type("Page", (list,), {"token": None})()

    def create_run(self, *args: Any, **options: Any) -> Any:
        self.num_runs += 1
        return SimpleNamespace(info=SimpleNamespace(run_id=f"{self.num_runs:032x}"))

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **options: None


class Tune:
    """What Tune and the lanes do: passes visits to lanes and updates back; `num_lanes` fits are in flight."""

    def __init__(self, study: RunnableStudy, num_lanes: int, report: ResultSink, meter: Meter) -> None:
        self.study, self.meter, self.work = study, meter, Formula(study.store.ledger, noise=0.02)
        capacity = LaneCapacity(len(study.plan.folds), lambda: num_lanes)
        with meter.part("start"):
            self.gate = BudgetGate(study.budget, _usage(study), capacity.lanes)
            self.engine = make_engine(study, capacity, self.gate)
            self.state, self.searcher = self.engine.state, EngineSearcher(self.engine)
            self.scheduler = EngineScheduler(self.engine)
            self.monitor = ProgressMonitor(study.store, self.gate, study.race, lambda status: None)
            self.monitor.follow(self.engine, self.engine.trials.study.get_trials(deepcopy=False))
            self.callback = ReportingCallback(study, self.engine, report, self.monitor)
        self.queue: deque[tuple[Any, int]] = deque()
        self.num_visits = 0
        self.num_fits = len(self.gate.usage.fits)
        self._measure()

    def _measure(self) -> None:
        meter, engine = self.meter, self.engine
        meter.wrap(optuna_trials, "draw", "sampler")
        meter.wrap(engine.state, "rank", "race: model of all")
        meter.wrap(engine, "finish", "race: verdict")
        meter.wrap(engine, "_recall", "race: which goes on")
        meter.wrap(engine, "epoch", "race: cuts in a fit")
        meter.wrap(self.searcher, "suggest", "engine")
        meter.wrap(self.searcher, "on_trial_complete", "engine")
        meter.wrap(engine, "_may_begin", "budget")
        for method in ("ask", "tell", "enqueue_trial", "get_trials", "set_user_attr"):
            meter.wrap(engine.trials.study, method, "journal")
        meter.wrap(engine.state.ledger.trials, "write", "trial records")
        meter.wrap(self.monitor, "draw", "status")
        meter.wrap(watch_module, "write_status", "status")
        meter.wrap(self.callback, "report_finished", "report")
        meter.wrap(self.callback, "on_trial_result", "report")
        meter.wrap(self.work, "train", "(training side: a record)")

    def run(self, num_fits: int, until: float = float("inf")) -> None:
        while self.num_fits < num_fits and time.monotonic() < until:
            while (visit := self.searcher.suggest(f"tune-{self.num_visits}")) not in (
                None,
                Searcher.FINISHED,
            ):
                trial = SimpleNamespace(
                    trial_id=f"tune-{self.num_visits}", config=visit, open=set(visit["folds"])
                )
                self.num_visits += 1
                self.callback.on_trial_start(0, [], trial)
                self.queue.extend((trial, fold) for fold in visit["folds"])
            if not self.queue:
                return
            trial, fold = self.queue.popleft()
            if fold in trial.open:
                self._report_fit(trial, fold)

    def _report_fit(self, trial: Any, fold: int) -> None:
        """A fit, in three pieces of update."""
        number = trial.config["number"]
        fit_id = self.state.fit_ids[number][fold]
        spec = self._spec(number, fold)
        rows = self.work.train(spec)
        self.num_fits += 1
        for part, done in ((rows[:4], False), (rows[4:8], False), (rows[8:], True)):
            update = {"fold": fold, "fit_id": fit_id, "rows": part, "done": done}
            trial.open -= {fold} if done else set()
            result = {"number": number, "updates": [update], "all_finished": not trial.open}
            decision = self.scheduler.on_trial_result(None, trial, result)
            self.searcher.on_trial_result(trial.trial_id, result)
            self.callback.on_trial_result(0, [], trial, result)
            if decision == TrialScheduler.STOP:
                trial.open.clear()
                self.searcher.on_trial_complete(trial.trial_id, result)
                self.callback.on_trial_complete(0, [], trial)
                break
        self.callback.on_step_end(0, [])

    def _spec(self, number: int, fold: int) -> FitSpec:
        return fold_specs(self.state.configurations[number], self.study.plan)[fold]


def study_in(home: Path, num_cases: int) -> RunnableStudy:
    if "drawn" not in {dataset.name for dataset in list_datasets(home)}:
        draw_dataset(home / "frames", num_cases=num_cases, size=32)
        add_dataset(home, "drawn", home / "frames", allow_empty=True)
    dataset = load_dataset(home, "drawn")
    study = RunnableStudy(
        store=StudyStore(home, "scale"),
        space=SPACE,
        plan=make_plan("five-fold", [dataset], seed=0),
        datasets=(dataset,),
        unseen=(),
        spec=StudySpec(epochs=10**9, rescore=0),
    )
    begin(study)
    return study


def fill(study: RunnableStudy, num_fits: int) -> None:
    """Write trials until there are so many fits: the baseline on all folds, random ones on one each."""
    num_folds = len(study.plan.folds)
    gate = BudgetGate(study.budget, _usage(study), lambda: 1)
    engine = make_engine(study, LaneCapacity(num_folds), gate)
    trials, state, work = engine.trials, engine.state, Formula(study.store.ledger, noise=0.02)
    trials.sampler = "random"
    known = len(gate.usage.fits)
    while known < num_fits and (number := trials.begin()) is not None:
        for fold in range(num_folds if number == 0 else 1):
            work.train(fold_specs(state.configurations[number], study.plan)[fold])
            state.observe(number, fold)
            known += 1
        if number == 0:
            state.record(0, Verdict("go", "the baseline"))
            trials.complete(0)
        else:
            state.record(number, Verdict("stop", "written without the loop"))
            trials.stop(number, "written without the loop")


def measure(options: argparse.Namespace, home: Path) -> list[dict[str, Any]]:
    """A row a size: the last fits before it."""
    until = time.monotonic() + 60 * options.minutes
    study = study_in(home, options.cases)
    MlflowSink._connect = lambda self: StudyRuns(Taking(), "scale", None, {})  # type: ignore
    rows = []
    for size in options.fits:
        begun = time.thread_time()
        if study.store.ledger.num_fits < size - 2 * options.window:
            fill(study, size - 2 * options.window)
        print(f"filled in {time.thread_time() - begun:.0f} s of CPU", file=sys.stderr, flush=True)
        console = ConsoleSink(study.store, say=lambda line: None, show=lambda status: None)
        console.folds = tuple(fold.name for fold in study.plan.folds)
        mlflow = MlflowSink(study.store, pictures=lambda *args: {})
        meter = Meter()
        report = AllSinks([console, mlflow, CsvSink(study.store)])
        tune = Tune(study, options.lanes, report, meter)
        start = meter.seconds["start"]
        # Sinks replay the study in threads of their own: they begin when the engine is loaded, as in a real study.
        with report:
            tune.callback.report_finished()
            tune.run(size - options.window, until)
            meter.clear()
            before = tune.num_fits
            tune.run(size, until)
            if tune.num_fits == before:
                continue
            tune.monitor.draw()
            with meter.part("status"):
                write_status(study.store.status_file, tune.monitor.latest)
            rows.append(_row(study, tune, tune.num_fits - before, start))
            print(json.dumps(rows[-1], indent=1), flush=True)
    return rows


def _row(study: RunnableStudy, tune: Tune, num_fits: int, start: float) -> dict[str, Any]:
    seconds = tune.meter.seconds
    ours = sum(value for name, value in seconds.items() if not name.startswith("("))
    return {
        "fits": tune.num_fits,
        "trials": len(tune.state.configurations),
        "ms_a_fit": {name: round(1000 * value / num_fits, 2) for name, value in sorted(seconds.items())},
        "ms_of_a_draw": round(
            1000 * seconds.get("sampler", 0) / max(1, tune.meter.calls.get("sampler", 0)), 1
        ),
        "ms_a_fit_together": round(1000 * ours / num_fits, 1),
        "start_s": round(start, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "journal_mb": round(study.store.journal_file.stat().st_size / 1e6, 1),
        "status_mb": round(study.store.status_file.stat().st_size / 1e6, 2),
    }


COMMANDS = {
    "leaderboard": "from orchestrator.results.views.study_scores import board; board(home.snapshot())",
    "status": "from orchestrator.search.progress.recorded import recorded_status; recorded_status(home.snapshot())",
    "best": "home.feasible()",
}


def boards(home: Path) -> list[dict[str, Any]]:
    """CPU seconds and memory of what reads a whole study, each in a process of its own."""
    rows = []
    for name, command in COMMANDS.items():
        code = (
            "import sys, resource; from pathlib import Path; "
            "from orchestrator.search.store.study_store import find_study; "
            f"home = find_study(Path(sys.argv[1]), None); {command}; used = resource.getrusage(resource.RUSAGE_SELF); "
            "print(used.ru_utime + used.ru_stime, used.ru_maxrss // 1024)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(home)], check=True, capture_output=True, text=True
        )
        seconds, megabytes = done.stdout.split()[-2:]
        rows.append({"command": name, "seconds": round(float(seconds), 1), "peak_mb": int(megabytes)})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="What a study's own work costs as it grows.")
    parser.add_argument("--fits", type=int, nargs="+", default=[200])
    parser.add_argument("--home", type=Path, help="where the study is kept, to go on with it")
    parser.add_argument("--lanes", type=int, default=16, help="fits in flight")
    parser.add_argument("--window", type=int, default=100, help="fits that are measured at each size")
    parser.add_argument("--cases", type=int, default=24, help="images of the dataset, when it is drawn")
    parser.add_argument("--minutes", type=float, default=600.0, help="end this step after so many")
    parser.add_argument("--boards", action="store_true", help="measure what reads the whole study")
    parser.add_argument("--out", type=Path, help="rows are added to this JSON file")
    options = parser.parse_args()
    if os.environ.get(THREADS) != "1":  # so that the CPU time of one thread is all CPU time
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, THREADS: "1"})
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        home = (options.home or Path(folder)).resolve()
        rows = boards(home) if options.boards else measure(options, home)
    if options.out:
        known = json.loads(options.out.read_text()) if options.out.exists() else []
        options.out.write_text(json.dumps([*known, *rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
