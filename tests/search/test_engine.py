"""One policy, two backends, two stores: whoever trains and whatever keeps the scores, the decisions are equal."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from formula import formula_study, row
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from visits import NUM_FOLDS, DiskStudy, FormulaFits

from orchestrator.scoring.pending_cases import scores_under
from orchestrator.search.choices import RuleName
from orchestrator.search.engine import Engine, Idle, LaneCapacity
from orchestrator.search.race.early_stopping import Finished
from orchestrator.search.race.rules import Race
from orchestrator.search.race.verdict_log import read_verdicts
from orchestrator.search.ray_tune.scheduler import EngineScheduler
from orchestrator.search.simulated.lanes import SimulatedLanes
from orchestrator.search.simulated.memory import MemoryState, MemoryTrials, WorldFits
from orchestrator.search.simulated.worlds import World

NUM_EPOCHS = 3
Event = tuple[str, tuple, Any]  # name of a call, its arguments, the answer


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with drawn frames in it."""
    home = tmp_path_factory.mktemp("home")
    formula_study(home, num_trials=1)
    return home


def recorded(engine: Engine[Any, Any]) -> list[Event]:
    """Every question and report to the engine from now on, with its answer."""
    events: list[Event] = []

    def note(name: str, plain: Any, *args: Any) -> Any:
        found = plain(*args)
        events.append((name, args, found))
        return found

    for name in ("ask", "epoch", "finish", "end"):
        setattr(engine, name, partial(note, name, getattr(engine, name)))
    return events


def replay(events: list[Event], disk: DiskStudy) -> None:
    """Report the same epochs and fits, in the same order, as Tune does; every answer is the same."""
    scheduler, names = EngineScheduler(disk.engine), dict[int, str]()
    for kind, args, expected in events:
        if kind == "ask":
            name, visit = disk.suggest()
            if isinstance(expected, Idle):
                assert visit == (None if expected is Idle.LATER else Searcher.FINISHED)
                continue
            assert (visit["number"], tuple(visit["folds"])) == (expected.number, expected.folds)
            names[expected.number] = name
        elif kind == "end":
            disk.searcher.on_trial_complete(names.pop(args[0]), {})
        else:
            if done := kind == "finish":
                disk.train_fit(*args)
            rows = [] if done else [row(*args[2:])]
            update = {"fold": args[1], "fit_id": "", "rows": rows, "done": done}
            result = {"number": args[0], "updates": [update], "all_finished": False}
            decision = scheduler.on_trial_result(None, None, result)
            is_stopped = expected is not None and expected.action == "stop"
            assert decision == (TrialScheduler.STOP if is_stopped else TrialScheduler.CONTINUE)
            assert expected is None or disk.state.verdicts[args[0]] == expected


def story(disk: DiskStudy) -> tuple[list, list]:
    """How every trial ended, and every verdict."""
    trials = [(t.number, t.state, t.params, t.values, t.user_attrs) for t in disk.trials]
    return trials, [line | {"at": 0} for line in read_verdicts(disk.log)]


@pytest.mark.parametrize("num_lanes", [1, 3])
def test_tune_and_the_simulated_clock_lead_to_the_same_decisions(template, tmp_path, num_lanes: int):
    kind = {"num_trials": 12, "race": "paired", "noise": 0.2, "num_lanes": num_lanes}
    simulated = DiskStudy(template, tmp_path / "simulated", **kind)
    events = recorded(simulated.engine)
    simulated.lanes(num_lanes, NUM_EPOCHS).run()
    verdicts = [found for name, _, found in events if name in ("epoch", "finish") and found is not None]
    assert {verdict.action for verdict in verdicts} == {"go", "pause", "stop"}
    tuned = DiskStudy(template, tmp_path / "tuned", **kind)
    replay(events, tuned)
    assert story(tuned) == story(simulated)


class Replayed:
    """A world that shows the fits of a study on disk."""

    names = ()

    def __init__(self, disk: DiskStudy) -> None:
        self.disk, self.world = disk, World("replayed", num_epochs=NUM_EPOCHS)

    def curve(self, number: int, point: Any, fold: int) -> np.ndarray:
        return np.array(FormulaFits(self.disk, NUM_EPOCHS).curve(number, fold))

    def is_too_large(self, point: Any) -> bool:
        return False

    def seconds(self, point: Any) -> float:
        return 1.0

    def fit(self, number: int, point: Any, fold: int) -> np.ndarray:
        state = self.disk.state
        record = state.ledger.read(state.fit_ids[number][fold])
        return scores_under(record.histograms, state.scores[number].masks)["dice"]


@pytest.mark.parametrize(("rule", "num_trials"), [("paired", 3), ("asha", 12), ("none", 4)])
def test_arrays_in_memory_and_records_on_disk_lead_to_the_same_decisions(
    template, tmp_path, rule: RuleName, num_trials: int
):
    """With more trials `paired` ranks by predictions, of which a simulation has its own."""
    disk = DiskStudy(
        template, tmp_path, num_trials=num_trials, race=rule, noise=0.2, num_lanes=2, sampler="random"
    )
    on_disk = recorded(disk.engine)
    disk.lanes(2, NUM_EPOCHS).run()
    groups = [[disk.groups[case_id] for case_id in fold.val] for fold in disk.study.plan.folds]
    fits = WorldFits(Replayed(disk), [], 0, lambda number, fold: 1.0)  # type: ignore[arg-type]
    state = MemoryState(Race(rule, groups), fits, ())
    trials, lanes = (
        MemoryTrials(state, ((0.0,),), lambda seen, seed: (0.0,), 0),
        LaneCapacity(NUM_FOLDS, lambda: 2),
    )
    engine = Engine(trials, state, disk.gate, lanes)
    disk.gate.end = None
    in_memory = recorded(engine)
    SimulatedLanes(engine, fits, 2).run()
    assert in_memory == on_disk
    assert [trial.state for trial in trials.trials] == [
        "complete" if trial.values and trial.state.name == "COMPLETE" else "stopped" for trial in disk.trials
    ]


def test_a_new_engine_knows_what_earlier_fits_have_gained(template, tmp_path):
    DiskStudy(template, tmp_path, num_trials=1).run()
    again = DiskStudy(template, tmp_path, num_trials=1)
    assert isinstance(again.state.curves, Finished) and len(again.state.curves) == NUM_FOLDS
