"""A study from search space to champion: read this one first.

The engine decides what is trained next, Tune and lanes train it, the ledger keeps finished fits, and sinks (terminal,
MLflow, CSV files) receive the results; this page connects them. A study that is run again resumes.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import replace

import ray
from ray import tune
from ray.tune import TuneConfig, Tuner

from orchestrator.common.errors import FitFailed
from orchestrator.common.faults import is_ray_failure, machine_fault
from orchestrator.common.interruption import held_back, raise_if_requested, requested_signal
from orchestrator.data.splits.outer_folds import outer_plans
from orchestrator.data.splits.plan import group_of_case
from orchestrator.ray_cluster.machine import Machine, cluster, open_widths, reach_cluster, shape_lanes
from orchestrator.search.budget.gate import BudgetGate
from orchestrator.search.budget.usage import ResourceUsage
from orchestrator.search.engine import Engine, LaneCapacity
from orchestrator.search.forecast.plan import some_configurations
from orchestrator.search.forecast.time_job import TimeJob
from orchestrator.search.forecast.width import NUM_DRAWN, WidthChoice, choose_width
from orchestrator.search.optuna_trials import OptunaTrials
from orchestrator.search.progress.monitor import ProgressMonitor
from orchestrator.search.race.rules import RULES
from orchestrator.search.race.state import RaceState
from orchestrator.search.ray_tune.scheduler import EngineScheduler
from orchestrator.search.ray_tune.searcher import EngineSearcher
from orchestrator.search.ray_tune.trainable import FoldTrial
from orchestrator.search.records.status import LaneCount, read_status
from orchestrator.search.store.optuna_storage import explained_errors
from orchestrator.search.store.trials import StudyTrial
from orchestrator.selection.nested import inner_store
from orchestrator.selection.reevaluation import as_named, reevaluate
from orchestrator.study.champion import choose_champion, chosen_champion
from orchestrator.study.checks import batch_sizes, check
from orchestrator.study.cleanup import WeightCleanup
from orchestrator.study.events import ReportingCallback
from orchestrator.study.reopen import reopen
from orchestrator.study.repair import restore, train_lost
from orchestrator.study.runnable_study import RunnableStudy
from orchestrator.study.sinks import AllSinks, ResultSink
from orchestrator.study.stopping import SearchStopper
from orchestrator.training.ray.lane_worker import Perform
from orchestrator.training.ray.lanes import Lanes

logger = logging.getLogger(__name__)
# How often in a row Tune may lose its processes without a fit that is finished in between, and after how many seconds
# it is started again.
MAX_TUNES, TUNE_AGAIN_S = 5, 5.0


@explained_errors()
def run_study(
    study: RunnableStudy, machine: Machine, work: Perform, sinks: Sequence[ResultSink]
) -> StudyTrial | None:
    """Search until the budget is used up, then score the champion on cases that the search never saw.

    `work` is what a lane does with a fit: it leaves a record in the study's ledger. `sinks` receive the results.

    Returns the champion; None if no trial was finished, or if its hours ended before the finalists were re-evaluated:
    then none is named, and the next run goes on with that. Raises `Interrupted` when it was asked to end, and
    `MachineFault` where a disk, a network or the memory failed; then, and after a kill at any moment, the same call
    goes on where it stopped.
    """
    check(study, machine)
    report = AllSinks(sinks)
    if not study.store.champion_file.exists():  # else there may be nothing left to do
        machine = replace(machine, address=reach_cluster(machine.address) or "local")
    with study.store.lock():
        _begin(study)
        note_former_race(study)
        restore(study.store)
        reopen(study.store)
        study.store.ledger.sweep()
        capacity = LaneCapacity(len(study.plan.folds))
        gate = BudgetGate(study.budget, _usage(study), capacity.lanes)
        gate.reserved = study.rescore * len(study.plan.folds) if study.rescore > 1 else 0
        engine = make_engine(study, capacity, gate)
        # What GPU-hours were spent is known once it is known what a lane holds.
        is_over = study.budget.gpu_hours is None and engine.is_over
        lost = engine.trials.lost()
        if is_over and not lost and (champion := chosen_champion(study.store, study.rescore)) is not None:
            with report:  # nothing is left to do but to write what a sink may have missed
                report.finished(champion)
            return champion
        monitor = ProgressMonitor(study.store, gate, study.race, report.progress)
        monitor.follow(engine, study.store.optuna_study().get_trials(deepcopy=False))
        with held_back(), report, monitor, cluster(machine):
            raise_if_requested()
            choice = settle_width(study, machine, work, monitor)
            if choice is not None:
                machine = replace(machine, workers_per_fit=choice.width)
            shape = shape_lanes(ray.nodes(), machine)
            gate.usage.lane(shape.gpus_per_worker, shape.workers_per_lane)
            report.started(study, shape)
            if choice is not None:
                monitor.choose_width(choice.width, choice.why)
                report.width_chosen(choice)
            with Lanes(work, shape, study.store.folder / "train", machine.num_lanes or math.inf) as lanes:
                capacity.num_lanes, stop = lanes.num_lanes, SearchStopper(engine, lanes)
                with monitor.counting_lanes(
                    lambda: LaneCount(lanes.num_lanes(), *lanes.count(), lanes.is_crowded)
                ):
                    callback = ReportingCallback(study, engine, report, monitor)
                    train_lost(lost, engine.state, lanes, gate, stop.stop_all, monitor)
                    callback.report_finished()
                    if not is_over:
                        monitor.now("searching")
                        _search(study, engine, lanes, stop, callback)
                    if gate.end is not None and gate.end.by == "failures":
                        raise FitFailed(gate.end.why)
                    raise_if_requested()
                    is_settled = reevaluate(
                        study.store,
                        study.rescore,
                        lanes,
                        gate,
                        stop.stop_all,
                        monitor,
                        report,
                        engine.state.expected(),
                    )
                    raise_if_requested()
                    if lanes.broken is not None:
                        raise FitFailed(lanes.broken)
                    if is_settled:
                        monitor.now("scoring")
                        champion = choose_champion(study.store, lanes)
                        monitor.name(None if champion is None else as_named(study.store.snapshot(), champion))
            # A fit that was cut may have been on record a moment later.
            WeightCleanup(study, engine.state)(callback.over())
            if not is_settled:
                return None
            monitor.finish()
            report.finished(champion)
    return champion


def inner_studies(study: RunnableStudy, num_outer: int) -> tuple[RunnableStudy, ...]:
    """The studies of a nested cross-validation: each searches as this one does, without the cases of an outer fold."""
    plans = outer_plans(study.plan, study.datasets, study.unseen, num_outer)
    return tuple(
        replace(study, store=inner_store(study.store, outer), plan=plan)
        for outer, plan in enumerate(plans, start=1)
    )


def begin(study: RunnableStudy) -> None:
    """Make the study's folder, or check that it was made of the very same things."""
    with study.store.lock():
        _begin(study)


def _begin(study: RunnableStudy) -> None:
    study.store.begin(study.space, study.plan, study.spec, study.warm_start_configurations)


def note_former_race(study: RunnableStudy) -> None:
    """Log that a study goes on by another rule, where the rule that it was begun with is no longer offered."""
    last = read_status(study.store.status_file)
    if last is not None and last.race not in RULES:
        logger.warning(
            "this study was begun with --race %s, which is no longer offered: it continues with --race %s",
            last.race,
            study.race,
        )


def settle_width(
    study: RunnableStudy, machine: Machine, work: Perform, monitor: ProgressMonitor
) -> WidthChoice | None:
    """Let the plan choose how many workers a fit gets, where nobody did; what it needs is measured in a lane, once."""
    nodes = ray.nodes()
    widths = open_widths(nodes, machine, batch_sizes(study.space))
    if not widths:
        return None
    configuration = some_configurations(study.space, NUM_DRAWN, study.seed)
    job = TimeJob(study.store.speeds_file, tuple(configuration), study.plan, widths)
    shape = shape_lanes(nodes, machine, num_lanes=1)
    if not job.is_done:
        monitor.now("timing")
        with Lanes(work, shape, study.store.folder / "train") as lanes:
            lanes.run("timing", job)
    return choose_width(
        job,
        num_gpus=shape.num_on(nodes),
        max_lanes=machine.num_lanes,
        num_trials=study.budget.trials,
        race=study.race,
        rescore=study.rescore,
        num_parameters=study.space.num_searched,
    )


def _usage(study: RunnableStudy) -> ResourceUsage:
    """Usage of earlier runs; that of fits without a record is from their last status."""
    last = read_status(study.store.status_file)
    return ResourceUsage(study.store.ledger, last.unfinished if last is not None else None)


def make_engine(
    study: RunnableStudy, lanes: LaneCapacity, gate: BudgetGate
) -> Engine[RaceState, OptunaTrials]:
    """The engine of a study on disk, as earlier runs have left it."""
    group_of = group_of_case((*study.datasets, *study.unseen), study.plan.near_duplicates)
    state = RaceState(
        study.store.ledger,
        study.space,
        study.plan,
        group_of,
        study.race,
        study.store.race_file,
        study.objective,
        study.secondary,
    )
    trials = OptunaTrials(
        study.store.optuna_study(),
        study.space,
        state,
        seed=study.seed,
        sampler=study.sampler,
        warm_start_configurations=study.store.warm_start_configurations(),
    )
    trials.time_left = gate.time_left
    if len(study.space.networks) > 1:  # their fits differ many times in length
        gate.usage.seconds_of_fit = state.seconds_of_fit
    return Engine(trials, state, gate, lanes)


def _search(
    study: RunnableStudy,
    engine: Engine[RaceState, OptunaTrials],
    lanes: Lanes,
    stop: SearchStopper,
    callback: ReportingCallback,
) -> None:
    """Run Tune until the search ends. Where its processes are lost it is started again, with the visits in flight.

    Raises what halted the lanes or the engine.
    """
    num_tried, num_finished = 0, callback.num_reported
    while True:
        try:
            _tuner(study, engine, lanes, stop, callback).fit()
        except Exception as failure:
            num_tried = 1 if callback.num_reported > num_finished else num_tried + 1
            num_finished = callback.num_reported
            fault = machine_fault(failure)
            if requested_signal() is not None or num_tried == MAX_TUNES or not is_ray_failure(failure):
                if fault is None:
                    raise
                raise fault from failure
            logger.warning("Tune lost its processes, and is started again: %s", fault or failure)
            engine.interrupt()
            time.sleep(TUNE_AGAIN_S)
            continue
        if (halted := engine.fault or lanes.check_fault()) is not None:
            raise halted
        return


def _tuner(
    study: RunnableStudy,
    engine: Engine[RaceState, OptunaTrials],
    lanes: Lanes,
    stop: SearchStopper,
    callback: ReportingCallback,
) -> Tuner:
    trainable = tune.with_parameters(
        FoldTrial,
        space=study.space,
        plan=study.plan,
        ledger=study.store.ledger,
        dispatcher=lanes.dispatcher,
    )
    return Tuner(
        tune.with_resources(trainable, {"CPU": 0.01}),
        tune_config=TuneConfig(
            search_alg=EngineSearcher(engine),  # asks the engine for visits
            scheduler=EngineScheduler(engine),  # reports epochs and fits to it
            num_samples=-1,  # the engine ends the search
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            # A fresh run each start: the ledger resumes, not Tune.
            name=f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}",
            storage_path=str(study.store.folder / "tune"),
            stop=stop,
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_at_end=False
            ),  # a trial is what its records are
            callbacks=[callback],  # reports to the sinks
            verbose=0,
        ),
    )
