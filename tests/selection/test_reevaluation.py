"""The finalists are scored again: by formula, with luck that the search has and a second scoring has not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from formula import Heard, carry_out, formula_study
from inline_lanes import InlineLanes
from lucky_fits import LUCKY, RATES, SHOWN, STEADY, LuckyWork

from orchestrator.data.splits.resplit import FRESH
from orchestrator.data.splits.split_file import write_plan
from orchestrator.search.budget.gate import BudgetGate
from orchestrator.search.budget.limits import Budget
from orchestrator.search.budget.usage import ResourceUsage
from orchestrator.search.progress.monitor import ProgressMonitor
from orchestrator.search.store.trials import champion_fit
from orchestrator.selection.ranking import select_trial
from orchestrator.selection.reevaluation import (
    Reevaluation,
    finalists,
    named,
    reevaluate,
    reevaluated_on,
    reevaluation_fits,
    reevaluation_of,
    reevaluation_plan,
    settled,
)
from orchestrator.study.champion import choose_champion, chosen_champion
from orchestrator.study.runnable_study import RunnableStudy


@pytest.fixture
def study(tmp_path: Path) -> RunnableStudy:
    study = formula_study(tmp_path, num_trials=4).with_options(rescore=3)
    carry_out(study, RATES, LuckyWork)
    return study


def gate_of(study: RunnableStudy, **budget) -> BudgetGate:
    return BudgetGate(Budget(trials=4, **budget), ResourceUsage(study.store.ledger))


def again(
    study: RunnableStudy, gate: BudgetGate | None = None, stop=lambda: False, **work
) -> tuple[bool, Heard, InlineLanes]:
    gate, heard = gate or gate_of(study), Heard()
    lanes = InlineLanes(LuckyWork(study.store.ledger, **work))
    monitor = ProgressMonitor(study.store, gate, "none", heard.progress)
    done = reevaluate(study.store, study.rescore, lanes, gate, stop, monitor, heard)
    assert monitor.latest.state == ("rescoring" if heard.told else "starting")
    return done, heard, lanes


def test_the_finalists_are_the_winner_and_those_that_are_not_significantly_different(study: RunnableStudy):
    standing = study.store.ranked()
    assert [trial.number for trial, _ in standing[:2]] == [1, 2]
    assert finalists(study.store.snapshot(), standing, 3) == (1, 2)
    assert finalists(study.store.snapshot(), standing, 1) == (1,)
    assert finalists(study.store.snapshot(), standing, 1, {1: 0.7, 2: 0.8}) == (2,)
    assert finalists(study.store.snapshot(), standing, 3, {1: 0.7, 2: 0.8}) == (1, 2)
    study.store.ledger.drop_weights([champion_fit(standing[1][0]).fit_id])
    assert finalists(study.store.snapshot(), standing, 3) == (1,)  # nobody could hand over the other one


def test_a_second_scoring_has_other_folds_and_seeds_and_the_same_hold_out(study: RunnableStudy):
    plan, fresh = study.store.plan(), reevaluation_plan(study.store.snapshot())
    assert fresh.test == plan.test and {f.val for f in fresh.folds}.isdisjoint(f.val for f in plan.folds)
    fits = reevaluation_fits(study.store.snapshot(), study.store.ranked(), (1, 2))
    specs = [spec for number in (1, 2) for spec in fits[number]]
    before = {record.spec.recipe.seed for trial in study.store.trials() for record in trial.records}
    assert before == {FRESH * place for place in range(5)}
    assert [spec.recipe.seed for spec in specs] == [FRESH * place for place in range(5, 10)] * 2
    assert not {id for spec in specs for id in (*spec.train, *spec.val)} & set(plan.test)
    assert (
        reevaluation_fits(study.store.snapshot(), study.store.ranked(), (1, 2)) == fits
    )  # the same whenever it is asked for


def test_folds_that_are_the_same_are_not_called_fresh(study: RunnableStudy):
    assert reevaluated_on(study.store.snapshot()) == "on fresh folds and seeds"
    write_plan(study.store.plan(), study.store.folder / "splits-again.json")
    assert reevaluated_on(study.store.snapshot()) == "from fresh seeds, on the folds of the search"
    again(study)
    said = select_trial(study.store.snapshot(), study.store.ranked()).reevaluation_sentences()
    assert "from fresh seeds, on the folds of the search" in said[0] and said[1].startswith("There, trial")


def test_luck_does_not_stand_a_second_scoring(study: RunnableStudy):
    done, heard, _ = again(study)
    assert done and heard.of("scoring_again") == [((1, 2), 10)]
    assert [number for number, _ in heard.of("fold_again")] == [1] * 5 + [2] * 5
    first, second = reevaluation_of(study.store.snapshot(), study.store.ranked())
    assert (first.trial, second.trial) == (2, 1)
    for one, rate in ((first, STEADY), (second, LUCKY)):
        search, fresh = SHOWN[rate]
        assert one.search == pytest.approx(search, abs=0.01) and one.fresh == pytest.approx(fresh, abs=0.01)
        assert one.both == pytest.approx(
            (one.search + one.fresh) / 2, abs=1e-9
        )  # every image has the same weight
        assert one.optimism == one.search - one.fresh


def test_the_champion_is_the_best_of_both_scorings_with_a_network_of_the_first(study: RunnableStudy):
    assert chosen_champion(study.store, study.rescore) is None  # not before the finalists were scored again
    _, _, lanes = again(study)
    champion = choose_champion(study.store, lanes)
    assert champion is not None and champion.number == 2
    told = study.store.champion()
    assert told is not None and told.fit_id in {record.fit_id for record in champion.records}
    assert champion_fit(champion).weights.exists()
    over = chosen_champion(study.store, study.rescore)
    assert over is not None and over.number == 2
    less = chosen_champion(study.store, 0)  # what is on record counts, whoever asks for no more of it
    assert less is not None and less.number == 2
    assert chosen_champion(study.store, 4) is None


def test_a_second_scoring_is_done_once_and_keeps_no_weights(study: RunnableStudy):
    again(study)
    assert again(study)[2].performed == []
    for specs in reevaluation_fits(study.store.snapshot(), study.store.ranked(), (1, 2)).values():
        assert not any(study.store.ledger.read(spec.fit_id).weights.exists() for spec in specs)


def test_a_second_scoring_that_was_ended_goes_on_with_the_fits_that_are_missing(study: RunnableStudy):
    turns = iter([False] * 5 + [True] * 99)
    done, _, lanes = again(study, stop=lambda: next(turns))
    assert (
        not done
        and 0 < len(lanes.performed) < 10
        and settled(study.store.snapshot(), study.store.ranked()) is None
    )
    assert chosen_champion(study.store, study.rescore) is None and study.store.champion() is None
    done, _, rest = again(study)
    assert (
        done
        and len(lanes.performed) + len(rest.performed) == 10
        and not set(lanes.performed) & set(rest.performed)
    )


def test_a_fit_that_an_earlier_run_put_on_record_is_not_trained_again_and_no_event_of_this_run(
    study: RunnableStudy,
):
    first, *_ = reevaluation_fits(study.store.snapshot(), study.store.ranked(), (1,))[1]
    LuckyWork(study.store.ledger)(first, torch.device("cpu"), 0, lambda row: True)
    _, heard, lanes = again(study)
    assert first.fit_id not in lanes.performed and len(heard.of("fold_again")) == 9
    (study.store.folder / "rescored.json").unlink()
    _, heard, lanes = again(study)
    assert lanes.performed == [] and heard.of("fold_again") == []


def test_when_the_hours_are_over_no_fit_of_it_is_begun(study: RunnableStudy):
    done, heard, lanes = again(study, stop=lambda: True)
    assert not done and lanes.performed == [] and heard.told == []


def test_a_finalist_that_cannot_be_trained_again_is_not_named(study: RunnableStudy):
    again(study, fails_again=STEADY)
    (one,) = reevaluation_of(study.store.snapshot(), study.store.ranked())
    assert one.trial == 1 and named(study.store.snapshot(), study.store.ranked())[0].number == 1
    selection = select_trial(study.store.snapshot(), study.store.ranked())
    assert selection.chosen == 1 and selection.failed_reevaluations.keys() == {2}
    assert any("Trial 2 is left out" in line for line in selection.reevaluation_sentences())
    told = settled(study.store.snapshot(), study.store.ranked())
    assert isinstance(told, Reevaluation) and told.finalists == (1, 2) and "nan" in told.failed[2]


def test_a_second_training_that_two_finalists_share_fails_for_both(tmp_path: Path):
    """As where they differ in their masks alone."""
    study = formula_study(tmp_path, num_trials=4).with_options(rescore=3)
    carry_out(study, [1e-4, LUCKY, LUCKY, STEADY], LuckyWork)
    again(study, fails_again=LUCKY)
    told = settled(study.store.snapshot(), study.store.ranked())
    assert told is not None and told.finalists == (1, 2, 3) and told.failed.keys() == {1, 2}
    assert [one.trial for one in reevaluation_of(study.store.snapshot(), study.store.ranked())] == [3]


def test_what_is_known_of_other_trials_is_not_settled(study: RunnableStudy):
    again(study)
    standing = study.store.ranked()
    assert (
        settled(study.store.snapshot(), standing, 3) is not None
        and settled(study.store.snapshot(), standing, 4) is None
    )
    assert (
        settled(study.store.snapshot(), standing[:3]) is None
        and reevaluation_of(study.store.snapshot(), standing[:3]) == ()
    )
    assert named(study.store.snapshot(), standing[:3])[0].number == 1


def test_a_winner_that_all_others_are_worse_than_is_not_re_evaluated(tmp_path: Path):
    study = formula_study(tmp_path, num_trials=2).with_options(rescore=3)
    carry_out(study, [1e-4, STEADY], LuckyWork)
    done, heard, lanes = again(study)
    assert done and lanes.performed == [] and heard.told == []
    assert settled(study.store.snapshot(), study.store.ranked(), 3) is not None
    assert reevaluation_of(study.store.snapshot(), study.store.ranked()) == ()


def test_a_budget_holds_back_what_the_second_scoring_will_cost(study: RunnableStudy):
    gate = gate_of(study, epochs=100)  # 60 are spent, 3 a fit
    assert gate.is_open(1, lambda: 0, list)
    gate.reserved = 15
    assert not gate.is_open(1, lambda: 0, list) and "45 are reserved" in gate.end.why


def test_what_the_second_scoring_costs_is_counted(study: RunnableStudy):
    gate = gate_of(study)
    before = gate.usage.spent().epochs
    again(study, gate)
    assert gate.usage.spent().epochs == before + 10 * 3 and gate.reserved == 0
    assert ResourceUsage(study.store.ledger).spent().epochs == before + 10 * 3
