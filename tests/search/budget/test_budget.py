"""What ends a search: pure budgets, what fits cost, and the rule on improvement, without Ray."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from formula import FormulaJobRunner, formula_study, row
from optuna.distributions import FloatDistribution

from orchestrator.common.errors import BadStudy
from orchestrator.search.budget.gate import BudgetGate
from orchestrator.search.budget.limits import Budget, End, FitCost, Resources, cost_of
from orchestrator.search.budget.usage import ResourceUsage
from orchestrator.search.records.ledger import Ledger
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.search.samplers.encoding import SpaceEncoding
from orchestrator.search.samplers.stopping_rule import GAIN, ShownTrial, promise, why_unlikely


def test_a_search_needs_a_budget():
    with pytest.raises(BadStudy, match=r"--trials, --hours, --gpu-hours, --epochs or --until-unlikely"):
        Budget()


@pytest.mark.parametrize("limit", [float("inf"), float("nan"), -1.0, 0.0])
def test_hours_are_finite_and_above_0(limit: float):
    with pytest.raises(BadStudy, match="--gpu-hours: expected a finite number"):
        Budget(gpu_hours=limit)


def test_the_first_budget_that_is_used_up_ends_the_search_and_says_so():
    budget = Budget(trials=40, gpu_hours=10.0, epochs=5000)
    assert budget.used_up(39, Resources(99.0, 9.9, 4999), Resources(), Resources()) is None
    assert budget.used_up(40, Resources(), Resources(), Resources()) == End(
        "trials", "40 of 40 trials were started"
    )
    end = budget.used_up(39, Resources(0, 10.0, 0), Resources(), Resources())
    assert end == End("gpu_hours", "10 of 10 GPU-hours are spent")
    assert str(budget) == "40 trials or 10 GPU-hours or 5,000 epochs"


def test_enough_is_held_back_for_the_finalists():
    end = Budget(epochs=1000).used_up(7, Resources(epochs=880), Resources(epochs=120), Resources(epochs=8))
    assert end is not None
    assert end.why == "880 of 1,000 epochs are spent, and 120 are reserved for the folds of the finalists"


def test_a_configuration_is_not_begun_that_would_overdraw_the_budget():
    spent = Resources(epochs=60)
    assert Budget(epochs=100).used_up(7, spent, Resources(epochs=32), Resources(epochs=8)) is None
    end = Budget(epochs=99).used_up(7, spent, Resources(epochs=32), Resources(epochs=8))
    assert end is not None and end.why == (
        "60 of 99 epochs are spent, and 32 are reserved for the folds of the finalists; another trial starts with 8"
    )


def test_only_hours_are_of_one_run():
    assert End("hours", "").is_of_this_run and End("interrupted", "").is_of_this_run
    assert not End("trials", "").is_of_this_run and not End("epochs", "").is_of_this_run


def test_fits_to_come_cost_what_finished_ones_did_in_as_many_waves_as_lanes_need():
    assert cost_of(5, FitCost(3600, 20), num_lanes=2, gpus_per_lane=4) == pytest.approx(
        Resources(3 * 1.1, 5 * 4 * 1.1, 100)
    )
    assert cost_of(5, FitCost(3600, 20), num_lanes=5, gpus_per_lane=0).gpu_hours == pytest.approx(5 * 1.1)
    assert cost_of(5, None, 2, 4) == Resources()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The ledger of a study with two finished fits of three epochs, and what was trained."""
    study = formula_study(tmp_path_factory.mktemp("home"), num_trials=1)
    specs = fold_specs(study.space.configuration(study.space.baseline_params()), study.plan)
    for spec in specs[:2]:
        FormulaJobRunner(study.store.ledger)(spec, None, 0, lambda row: True)  # type: ignore[arg-type]
    return study.store.ledger, specs


def test_records_of_earlier_runs_count(trained):
    ledger, _ = trained
    usage = ResourceUsage(ledger)
    assert (usage.spent().epochs, usage.per_fit()) == (6, FitCost(1.0, 3.0))
    assert usage.spent().gpu_hours == pytest.approx(2 / 3600)  # two seconds in a lane without a GPU
    usage.lane(gpus_per_worker=0.5, workers=1)
    assert usage.spent().gpu_hours == pytest.approx(1 / 3600)


def test_a_refit_is_no_part_of_the_search(trained, tmp_path):
    _, specs = trained
    ledger, spec = Ledger(tmp_path / "ledger"), specs[0].model_copy(update={"val": (), "fold": "refit"})
    plain = {"curves": [row(0, math.nan)], "best_epoch": 0, "seconds": 1.0, "device": "cpu", "world_size": 1}
    ledger.write(spec, plain | {"case_ids": (), "versions": {}}, np.zeros((0, 2, 256)), {}, b"")
    assert ResourceUsage(Ledger(tmp_path / "ledger")).spent().epochs == 0


def test_epochs_in_flight_count_once_and_the_record_has_the_last_word(trained, tmp_path):
    ledger, specs = trained
    usage = ResourceUsage(Ledger(tmp_path))
    fit_id = specs[0].fit_id
    usage.add_epochs(fit_id, [row(0, 0.5), row(1, 0.5)])
    usage.add_epochs(fit_id, [row(1, 0.5), row(2, 0.5)])  # reported again by a lane that started anew
    assert usage.spent().epochs == 3
    assert usage.unfinished() == {fit_id: [3, pytest.approx(0.3), 1]}
    usage.finish(ledger.read(fit_id))
    assert (usage.spent().epochs, usage.unfinished()) == (3, {})


def test_what_fits_cost_that_never_came_on_record_is_remembered(tmp_path):
    cut = ResourceUsage(Ledger(tmp_path))
    cut.add_epochs("cut", [row(0, 0.5), row(1, 0.5)])
    later = ResourceUsage(Ledger(tmp_path), json.loads(json.dumps(cut.unfinished())))
    assert later.spent().epochs == 2 and later.per_fit() is None


def test_the_pace_is_that_of_the_last_minutes(tmp_path):
    clock = Clock()
    usage = ResourceUsage(Ledger(tmp_path), clock=clock)
    assert usage.epochs_per_second() is None
    for second in range(2000):
        clock.now = float(second)
        if second < 1000 or second % 10 == 0:
            usage.add_epochs(f"fit {second}", [row(0, 0.5)])
    assert usage.epochs_per_second() == pytest.approx(0.1, rel=0.1)


def test_a_gate_that_is_closed_stays_closed(tmp_path):
    clock = Clock()
    gate = BudgetGate(Budget(hours=2.0), ResourceUsage(Ledger(tmp_path), clock=clock))
    assert gate.is_open(3, lambda: 0, list)
    clock.now = 7300.0
    assert gate.is_out_of_time and not gate.is_open(3, lambda: 0, list)
    clock.now = 0.0
    assert not gate.is_open(3, lambda: 0, list)
    assert gate.end is not None and gate.end.by == "hours"


def test_hours_end_early_enough_for_the_finalists(trained):
    ledger, _ = trained
    clock = Clock()
    gate = BudgetGate(Budget(hours=1.0), ResourceUsage(ledger, clock=clock), num_lanes=lambda: 2)
    clock.now = 3600 - 8.0
    assert gate.is_open(3, lambda: 12, list)  # six waves of 1.1 seconds, and one for another setting
    clock.now = 3600 - 7.0
    assert not gate.is_open(3, lambda: 12, list) and not gate.is_out_of_time


UNIT = FloatDistribution(0.0, 1.0)


def hill(x: float, y: float) -> float:
    return 0.8 - 0.3 * ((x - 0.3) ** 2 + (y - 0.6) ** 2)


def configuration(num: int, near: float) -> list[ShownTrial]:
    """Settings of two parameters, spread `near` the top of the hill."""
    rng = np.random.default_rng(0)
    points = np.clip([0.3, 0.6] + near * rng.normal(size=(num, 2)), 0, 1)
    return [ShownTrial({"x": x, "y": y}, {"x": UNIT, "y": UNIT}, hill(x, y), 1) for x, y in points.tolist()]


def test_no_improvement_is_likely_once_the_top_is_known():
    why = why_unlikely(configuration(40, near=0.25))
    assert why is not None
    assert why.startswith("after 40 configurations no further one is expected to gain more than 0.0")


def test_improvement_is_likely_where_few_configurations_were_seen_or_all_far_from_the_top():
    assert why_unlikely(configuration(9, near=0.25)) is None
    rng = np.random.default_rng(0)
    slope = [
        ShownTrial({"x": x, "y": y}, {"x": UNIT, "y": UNIT}, 0.5 + 0.3 * x, 1)
        for x, y in (rng.random((20, 2)) * [0.5, 1.0]).tolist()
    ]
    assert why_unlikely(slope) is None


def test_configurations_that_are_all_alike_promise_nothing_that_is_known():
    same = [replace(one, value=0.5) for one in configuration(40, near=0.25)]
    assert why_unlikely(same) is None


def test_failed_configurations_count_as_the_worst_that_was_seen():
    shown = configuration(40, near=0.25)
    failed = [replace(one, value=None) if one.params["x"] > 0.5 else one for one in shown]
    assert any(one.value is None for one in failed)
    values = np.array([np.nan if one.value is None else one.value for one in failed])
    box = SpaceEncoding({"x": UNIT, "y": UNIT})
    points = np.array([box.point(one.params) for one in failed])
    assert promise(points, values, np.ones(40), box) < 10 * GAIN
