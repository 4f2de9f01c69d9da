"""A study from search-space file to champion: read this one first.

Who suggests (the searcher), who trains (the lanes), who remembers (the ledger) and who tells the world (tracking) never
meet; this page wires them. Running a study again resumes it: finished fits are read, not repeated.
"""

from __future__ import annotations

import logging
import math
import os
import time
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol

import ray
from optuna.trial import FrozenTrial, TrialState
from ray import tune
from ray.tune import Callback, Stopper, TuneConfig, Tuner

from orchestrator.champion import crown, crowned
from orchestrator.data.cases import Dataset
from orchestrator.data.outer import outer_plans
from orchestrator.data.redeal import dealt_again
from orchestrator.data.splits import SplitPlan, group_of_case
from orchestrator.errors import BadSpace, BadStudy, FitFailed
from orchestrator.faults import is_of_ray, machine_fault
from orchestrator.interruption import asked, held_back, listen_again, raise_if_asked
from orchestrator.machine import Machine, cluster, open_widths, reach_cluster, shape_lanes
from orchestrator.scoring.choice import MaskChoice
from orchestrator.search.beside import Beside, beside_of
from orchestrator.search.budget import Budget, End
from orchestrator.search.choices import GoalName, ObjectiveName, RuleName, SamplerName
from orchestrator.search.home import (
    StudyHome,
    StudyTrial,
    read_trial,
)
from orchestrator.search.ledger import FitRecord
from orchestrator.search.mending import restore, train_lost
from orchestrator.search.nested import inner_home
from orchestrator.search.objective import Objective, objective_over, objective_problems
from orchestrator.search.plan import some_settings
from orchestrator.search.purse import Purse
from orchestrator.search.race import RaceScheduler
from orchestrator.search.race_rules import Verdict
from orchestrator.search.reopen import reopen
from orchestrator.search.rescore import as_named, score_again
from orchestrator.search.samplers import makers, refuse_unless_allowed
from orchestrator.search.searcher import OptunaSearcher, Room
from orchestrator.search.space import SearchSpace
from orchestrator.search.spending import Spending
from orchestrator.search.standings import Standings
from orchestrator.search.status import LaneCount, Status, read_status
from orchestrator.search.storage import reach, trouble_told
from orchestrator.search.told import Told
from orchestrator.search.trial import FoldTrial
from orchestrator.search.watch import Watch
from orchestrator.search.width import (
    NUM_DRAWN,
    TimeJob,
    WidthChoice,
    choose_width,
)
from orchestrator.training.lane import Lanes, Perform, Shape
from orchestrator.training.recipe import Recipe

logger = logging.getLogger(__name__)
# How often in a row Tune may lose its processes without a fit that is finished in between, and after how many seconds
# it is started again.
MAX_TUNES, TUNE_AGAIN_S = 5, 5.0
# Trials whose weights are kept; any other can be champion again only by a refit.
KEEP_WEIGHTS = 3
# Races that test whether one mean over images is below another.
COMPARES_MEANS = ("paired", "wilcoxon")


@dataclass(frozen=True)
class Study:
    """What is searched, on what, and for how long."""

    home: StudyHome
    space: SearchSpace
    plan: SplitPlan
    datasets: tuple[Dataset, ...]
    unseen: tuple[Dataset, ...]
    budget: Budget
    seed: int
    race: RuleName = "paired"
    sampler: SamplerName = "surrogate"
    maximise: ObjectiveName = "mean"
    beside: tuple[GoalName, ...] = ()  # further objectives
    constraints: tuple[str, ...] = ()  # limits that a champion keeps
    warm_start: tuple[str, ...] = ()  # earlier studies
    beginnings: tuple[dict[str, Any], ...] = ()  # the settings that they recommend
    storage: str | None = None  # URL of a database; None: the one it has, or the journal
    rescore: int = 0  # finalists, at most, that are scored again before one is named; below 2: none

    @property
    def objective(self) -> Objective:
        return objective_over(self.maximise, self.datasets)

    @property
    def also(self) -> Beside:
        return beside_of(self.beside, self.datasets, self.constraints)


class StudyReport(Protocol):
    """Who is told what happens in a study; a context for as long as it runs."""

    def __enter__(self) -> object: ...
    def __exit__(self, *_: object) -> None: ...
    def started(self, study: Study, shape: Shape) -> None: ...
    def width_chosen(self, choice: WidthChoice) -> None: ...
    def trial_started(self, number: int, params: dict[str, Any]) -> None: ...
    def news(self, number: int, fold: int, fit_id: str, rows: list[dict[str, float]]) -> None: ...
    def fold_finished(self, number: int, fold: int, record: FitRecord, masks: MaskChoice) -> None: ...
    def judged(self, number: int, verdict: Verdict) -> None: ...
    def trial_finished(self, trial: StudyTrial) -> None: ...
    def ends(self, end: End) -> None: ...
    def scoring_again(self, trials: Sequence[int], num_fits: int) -> None: ...
    def fold_again(self, number: int, record: FitRecord, masks: MaskChoice) -> None: ...
    def progress(self, status: Status) -> None: ...  # about once a second, from a thread of its own
    def finished(self, champion: StudyTrial | None) -> None: ...


@trouble_told()
def run_study(study: Study, machine: Machine, work: Perform, report: StudyReport) -> StudyTrial | None:
    """Search until the budget is used up, then score the champion on cases that the search never saw.

    `work` is what a lane does with a fit: it leaves a record in the study's ledger.

    Returns the champion; None if no trial was finished, or if its hours ended before the finalists were scored again:
    then none is named, and the next run goes on with that. Raises `Interrupted` when it was asked to end, and
    `MachineFault` where a disk, a network or the memory failed; then, and after a kill at any moment, the same call
    goes on where it stopped.
    """
    check(study, machine)
    if not study.home.champion_file.exists():  # else there may be nothing left to do
        machine = replace(machine, address=reach_cluster(machine.address) or "local")
    with study.home.lock():
        _begin(study)
        restore(study.home)
        reopen(study.home)
        study.home.ledger.sweep()
        room = Room(len(study.plan.folds))
        purse = Purse(study.budget, _spending(study), room.lanes)
        purse.reserved = study.rescore * len(study.plan.folds) if study.rescore > 1 else 0
        searcher = _searcher(study, room, purse)
        # What GPU-hours were spent is known once it is known what a lane holds.
        is_over = study.budget.gpu_hours is None and searcher.is_over
        lost = searcher.lost()
        if is_over and not lost and (champion := crowned(study.home, study.rescore)) is not None:
            with report:  # nothing is left to do but to tell those who were away
                report.finished(champion)
            return champion
        watch = Watch(study.home, purse, study.race, report.progress)
        watch.follow(searcher, study.home.optuna_study().get_trials(deepcopy=False))
        with held_back(), report, watch, cluster(machine):
            raise_if_asked()
            choice = settle_width(study, machine, work, watch)
            if choice is not None:
                machine = replace(machine, workers_per_fit=choice.width)
            shape = shape_lanes(ray.nodes(), machine)
            purse.spending.lane(shape.gpus_per_worker, shape.workers_per_lane)
            report.started(study, shape)
            if choice is not None:
                report.width_chosen(choice)
            with Lanes(work, shape, study.home.folder / "train", machine.num_lanes or math.inf) as lanes:
                room.num_lanes, stop = lanes.num_lanes, Stop(purse, searcher, lanes)
                with watch.counting_lanes(
                    lambda: LaneCount(lanes.num_lanes(), *lanes.count(), lanes.is_crowded)
                ):
                    word = Word(study, searcher, report, watch)
                    train_lost(lost, searcher.standings, lanes, purse, stop.stop_all, watch)
                    word.catch_up()
                    if not is_over:
                        watch.now("searching")
                        _search(study, searcher, lanes, stop, word)
                    if purse.end is not None and purse.end.by == "failures":
                        raise FitFailed(purse.end.why)
                    raise_if_asked()
                    is_settled = score_again(
                        study.home, study.rescore, lanes, purse, stop.stop_all, watch, report
                    )
                    raise_if_asked()
                    if lanes.broken is not None:
                        raise FitFailed(lanes.broken)
                    if is_settled:
                        watch.now("scoring")
                        champion = crown(study.home, lanes)
                        watch.name(None if champion is None else as_named(study.home, champion))
            # A fit that was cut may have been on record a moment later.
            Tidy(study, searcher.standings)(word.over())
            if not is_settled:
                return None
            report.finished(champion)
    return champion


def inner_studies(study: Study, num_outer: int) -> tuple[Study, ...]:
    """The studies of a nested cross-validation: each searches as this one does, without the cases of an outer fold."""
    plans = outer_plans(study.plan, study.datasets, study.unseen, num_outer)
    return tuple(
        replace(study, home=inner_home(study.home, outer), plan=plan)
        for outer, plan in enumerate(plans, start=1)
    )


def begin(study: Study) -> None:
    """Make the study's folder, or check that it was made of the very same things."""
    with study.home.lock():
        _begin(study)


def _begin(study: Study) -> None:
    study.home.begin(
        study.space,
        study.plan,
        study.seed,
        study.maximise,
        study.storage,
        study.beside,
        study.constraints,
        study.warm_start,
        study.beginnings,
    )


def check(study: Study, machine: Machine) -> None:
    """Refuse what cannot work before a GPU is taken."""
    problems = []
    smallest = min(len(fold.train) for fold in study.plan.folds)
    for batch_size in batch_sizes(study.space):
        if batch_size > smallest:
            problems.append(
                f"batch_size: {batch_size} images need a fold that large; the smallest trains on {smallest}"
            )
        if batch_size % (machine.workers_per_fit or 1):
            problems.append(
                f"batch_size: {batch_size} images cannot be dealt to {machine.workers_per_fit} workers per fit"
            )
    if problems:
        raise BadSpace(str(study.space.path or "search space"), problems)
    if study.rescore > 1:
        dealt_again(study.plan, study.datasets, study.unseen)  # refuses what cannot be dealt twice
    problems = [*objective_problems(study.objective, study.plan), *study.also.problems(study.plan)]
    if problems := [*problems, *_several_problems(study), *_race_problems(study)]:
        raise BadStudy("--objective", problems)
    refuse_unless_allowed(study.space, study.also, study.seed)
    if (url := study.storage or study.home.storage) is not None:
        reach(url)


def _several_problems(study: Study) -> list[str]:
    """What does not go together with so many objectives."""
    goals = (study.maximise, *study.beside)
    count, known = f"{len(goals)} objectives" if study.beside else "one objective", makers(len(goals))
    problems = []
    if len({*goals}) < len(goals):
        problems.append(f"each can be given once, found {', '.join(goals)}")
    if study.sampler not in known:
        problems.append(f"--sampler {study.sampler} is not for {count}; these are: {', '.join(known)}")
    if study.beside and study.race != "none":
        problems.append(
            f"--race {study.race} compares trials by one objective, found {count}; use --race none"
        )
    if study.beside and study.budget.until_unlikely:
        problems.append(f"--until-unlikely looks at one objective, found {count}; use another budget")
    return problems


def _race_problems(study: Study) -> list[str]:
    if study.maximise == "mean" or study.beside or study.race not in COMPARES_MEANS:
        return []
    return [
        f"--race {study.race} stops a trial whose mean over images is surely below the best one's, which says "
        f"little of its {study.maximise}; use --race none, asha, forgiving or median"
    ]


def batch_sizes(space: SearchSpace) -> tuple[int, ...]:
    """Every batch size that a trial of this space can have."""
    if "batch_size" in space.search:
        return tuple(int(value) for value in space.search["batch_size"].steps)
    return (space.fixed.get("batch_size", Recipe.model_fields["batch_size"].default),)


def settle_width(study: Study, machine: Machine, work: Perform, watch: Watch) -> WidthChoice | None:
    """Let the plan choose how many workers a fit gets, where nobody did; what it needs is measured in a lane, once."""
    nodes = ray.nodes()
    widths = open_widths(nodes, machine, study.space.networks, batch_sizes(study.space))
    if not widths:
        return None
    settings = some_settings(study.space, NUM_DRAWN, study.seed)
    job = TimeJob(study.home.speeds_file, tuple(settings), study.plan, widths)
    shape = shape_lanes(nodes, machine, num_lanes=1)
    if not job.is_done:
        watch.now("timing")
        with Lanes(work, shape, study.home.folder / "train") as lanes:
            lanes.run("timing", job)
    return choose_width(
        job,
        num_gpus=shape.num_on(nodes),
        max_lanes=machine.num_lanes,
        num_trials=study.budget.trials,
        race=study.race,
        rescore=study.rescore,
        num_parameters=len(study.space.search),
    )


def _spending(study: Study) -> Spending:
    """What earlier runs spent; of fits that left no record their status knows."""
    last = read_status(study.home.status_file)
    return Spending(study.home.ledger, last.unfinished if last is not None else None)


def _searcher(study: Study, room: Room, purse: Purse) -> OptunaSearcher:
    group_of = group_of_case((*study.datasets, *study.unseen), study.plan.twins)
    standings = Standings(
        study.home.ledger,
        study.space,
        study.plan,
        group_of,
        study.race,
        study.home.race_file,
        study.objective,
        study.also,
    )
    return OptunaSearcher(
        study.home.optuna_study(),
        study.space,
        standings,
        purse=purse,
        seed=study.seed,
        room=room,
        sampler=study.sampler,
        beginnings=study.home.beginnings(),
    )


def _search(study: Study, searcher: OptunaSearcher, lanes: Lanes, stop: Stop, word: Word) -> None:
    """Run Tune until the search ends. Where its processes are taken away it is begun anew, with what it was at.

    Raises what halted the lanes or the searcher.
    """
    num_tried, num_finished = 0, len(word.told.names)
    while True:
        try:
            _tuner(study, searcher, lanes, stop, word).fit()
        except Exception as failure:
            num_tried = 1 if len(word.told.names) > num_finished else num_tried + 1
            num_finished = len(word.told.names)
            fault = machine_fault(failure)
            if asked() is not None or num_tried == MAX_TUNES or not is_of_ray(failure):
                if fault is None:
                    raise
                raise fault from failure
            logger.warning("Tune lost its processes, and begins anew: %s", fault or failure)
            searcher.take_back()
            time.sleep(TUNE_AGAIN_S)
            continue
        if (halted := searcher.fault or lanes.check_fault()) is not None:
            raise halted
        return


def _tuner(study: Study, searcher: OptunaSearcher, lanes: Lanes, stop: Stop, word: Word) -> Tuner:
    trainable = tune.with_parameters(
        FoldTrial,
        space=study.space,
        plan=study.plan,
        ledger=study.home.ledger,
        dispatcher=lanes.dispatcher,
    )
    return Tuner(
        tune.with_resources(trainable, {"CPU": 0.01}),
        tune_config=TuneConfig(
            search_alg=searcher,  # decides what to try, and on which folds
            scheduler=RaceScheduler(searcher.standings),  # decides when enough is known of a trial
            num_samples=-1,  # the searcher says when it is over
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            # A fresh run each start: the ledger resumes, not Tune.
            name=f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}",
            storage_path=str(study.home.folder / "tune"),
            stop=stop,
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_at_end=False
            ),  # a trial is what its records are
            callbacks=[word],  # carries word to MLflow and to the screen
            verbose=0,
        ),
    )


class Word(Callback):
    """Carries word from Tune to the report, and tidies up after trials that are over."""

    def __init__(self, study: Study, searcher: OptunaSearcher, report: StudyReport, watch: Watch) -> None:
        self.study, self.report, self.watch, self.ledger = study, report, watch, study.home.ledger
        self.searcher, self.standings, self.purse = searcher, searcher.standings, searcher.purse
        self.end: End | None = None  # as it was told
        self.told = Told(study.home.told_file)
        self.tidy, self.has_told = Tidy(study, searcher.standings), False

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks for `Tuner.restore`, which is never used here."""
        return {}

    def setup(self, *_: Any, **info: Any) -> None:
        """Tune has just taken SIGUSR1, to end as if it were done."""
        listen_again()

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        config = trial.config
        self.watch.visit(config["number"], config["params"], config["folds"])
        self.report.trial_started(config["number"], config["params"])

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        number = result["number"]
        for told in result["news"]:
            self.purse.spending.hear(told["fit_id"], told["rows"])
            self.watch.hear(number, told["fold"], told["rows"], self._epochs(number), told["done"])
            self.report.news(number, told["fold"], told["fit_id"], told["rows"])
            if told["done"]:
                record = self.ledger.read(told["fit_id"])
                self.purse.spending.finish(record)
                self._fold(number, told["fold"], record, self.standings.settings[number].masks)
                self.report.judged(number, self.standings.verdicts[number])

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.watch.leave(trial.config["number"])
        self.tell()

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.watch.leave(trial.config["number"])
        self.tell()

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        end = self.purse.end
        if end is not None and end != self.end:
            self.end = end
            self.report.ends(end)
        self.watch.step()

    def on_experiment_end(self, trials: list, **info: Any) -> None:
        self.tell()

    def catch_up(self) -> None:
        """Report what an earlier run put on record, and was killed before it said so."""
        for number in self.standings.waiting:
            before = len(self.told.names)
            self._folds(number, self.standings.settings[number].masks)
            if len(self.told.names) > before:
                self.report.judged(number, self.standings.verdicts[number])
        self.tell()

    def tell(self) -> None:
        """Report every trial that Optuna has been told of since the last time."""
        new = self._new()
        for trial in new:
            if f"trial {trial.number}" in self.told:
                continue
            look = self.standings.looks.get(trial.number)
            told = read_trial(trial, self.study.space, self.study.plan, self.ledger, look)
            if trial.number in self.standings.fit_ids:
                self._folds(trial.number, told.settings.masks)
            self.watch.told(told)
            self.report.trial_finished(told)
            self.told.add(f"trial {trial.number}")
        if new:
            self.tidy(new)

    def over(self) -> list[FrozenTrial]:
        """Every trial that is over."""
        return [trial for trial in self._stored() if trial.state.is_finished()]

    def _new(self) -> list[FrozenTrial]:
        """Trials that are over and were not looked at by `tell`; the first time all of earlier runs."""
        if not self.has_told:
            self.has_told = True
            self.searcher.over.clear()
            return self.over()
        numbers = list(dict.fromkeys(self.searcher.over))
        self.searcher.over.clear()
        return [self.searcher.stored(number) for number in numbers]

    def _folds(self, number: int, masks: MaskChoice) -> None:
        for fold in self.standings.finished(number):
            self._fold(number, fold, self.ledger.read(self.standings.fit_ids[number][fold]), masks)

    def _fold(self, number: int, fold: int, record: FitRecord, masks: MaskChoice) -> None:
        """Report a finished fold, unless that was done."""
        name = f"fold {number} {fold}"
        if name not in self.told:
            self.report.fold_finished(number, fold, record, masks)
            self.told.add(name)

    def _epochs(self, number: int) -> int:
        return self.standings.settings[number].recipe.epochs

    def _stored(self) -> list[FrozenTrial]:
        return self.searcher.study.get_trials(deepcopy=False)


class Tidy:
    """Keeps the weights of the best trials and of those that may still be it; forgets checkpoints nobody will want."""

    def __init__(self, study: Study, standings: Standings) -> None:
        self.ledger, self.standings = study.home.ledger, standings
        self.num_best = max(KEEP_WEIGHTS, study.rescore)
        self.ranked: list[tuple[float, int]] = []  # complete trials: minus the value, number
        self.kept: set[int] = set()  # of those that are over
        self.lost: set[int] = set()

    def __call__(self, trials: Sequence[FrozenTrial]) -> None:
        """Of trials that are over and that were not told of before; only what changes with them is looked at."""
        for trial in trials:
            self.standings.fits(trial)
            if trial.state == TrialState.COMPLETE:
                insort(self.ranked, (-trial.values[0], trial.number))
        able = (number for _, number in self.ranked if not self.standings.is_barred(number))
        keep = {*self.standings.front(), *islice(able, self.num_best)}
        over = {*self.kept, *(trial.number for trial in trials)}
        self.kept = over & keep
        self.lost |= over - keep
        drop = {
            fit
            for number in over - keep
            for fit in self.standings.fit_ids.get(number, ())
            if self._is_lost(fit)
        }
        self.ledger.drop_weights(drop)
        self.ledger.drop_checkpoints(drop)

    def _is_lost(self, fit_id: str) -> bool:
        """Whether it is of no trial that is open, or kept."""
        return self.lost.issuperset(self.standings.shares[fit_id])


class Stop(Stopper):
    """Stops the whole search when its hours are over, somebody asked, or the machine does not let it go on."""

    def __init__(self, purse: Purse, searcher: OptunaSearcher, lanes: Lanes) -> None:
        self.purse, self.searcher, self.lanes = purse, searcher, lanes

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles it for `Tuner.restore`, which is never used here."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        fault = self.searcher.fault or self.lanes.fault
        if asked() is not None:
            self.purse.close("interrupted", "it was interrupted")
        elif fault is not None:
            self.purse.close("machine", str(fault))
        elif self.purse.is_out_of_time:
            self.purse.close("hours", f"{self.purse.budget.hours:g} hours are over")
        return (
            asked() is not None
            or fault is not None
            or self.purse.is_out_of_time
            or self.lanes.broken is not None
        )
