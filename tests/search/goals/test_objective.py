"""What a search maximises: means and worst ones, over folds and over centers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from formula import SPACE, finish, formula_study
from split_plans import five_fold

from orchestrator.common.errors import BadStudy
from orchestrator.data.cases import load_dataset
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.data.splits.plan import make_plan
from orchestrator.ray_cluster.machine import Machine
from orchestrator.results.views.study_scores import board
from orchestrator.results.views.tables import ranked_rows
from orchestrator.search.goals.objective import Objective, objective_over, objective_problems
from orchestrator.search.race.state import RaceState
from orchestrator.search.store.study_store import StudyStore
from orchestrator.selection.ranking import select_trial
from orchestrator.study.checks import check
from orchestrator.study.runnable_study import RunnableStudy

STEADY, UNEVEN = (0.7,) * 5, (0.95, 0.95, 0.95, 0.95, 0.5)


def dice(found: float) -> float:
    return 2 * round(1000 * found) / (1000 + round(1000 * found))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> RunnableStudy:
    """Trial 0 is uneven, trial 1 steady, trial 2 has one fold."""
    made = formula_study(tmp_path_factory.mktemp("home"), num_trials=3).with_options(
        objectives=("worst-fold",)
    )
    made.store.begin(made.space, made.plan, made.spec)
    for rate, shares in ((1e-4, UNEVEN), (1e-3, STEADY), (1e-2, (0.6,))):
        finish(made, rate, shares)
    return made


@pytest.fixture(scope="module")
def centers(tmp_path_factory: pytest.TempPathFactory) -> RunnableStudy:
    """A study on images of three centers."""
    home = tmp_path_factory.mktemp("centers")
    draw_dataset(home / "near-frames", num_cases=30, size=32)
    add_dataset(
        home, "near", home / "near-frames", groups=home / "near-frames" / "groups.csv", allow_empty=True
    )
    near = load_dataset(home, "near")
    study = formula_study(home, num_trials=1)
    plan = make_plan("leave-one-center-out", [near], seed=0, holdout=0)
    return replace(study, store=StudyStore(home, "centers"), datasets=(near,), plan=plan)


def test_the_worst_fold_ranks_the_steady_trial_first_and_the_mean_the_uneven_one(study: RunnableStudy):
    (first, score), (second, _) = study.store.ranked()
    assert (first.number, second.number) == (1, 0)
    assert study.objective(score) == pytest.approx(dice(0.7)) == pytest.approx(Objective()(score))
    assert [row.number for _, row in ranked_rows(board(study.store.snapshot()))[:2]] == [1, 0]
    assert "highest worst-fold dice" in select_trial(study.store.snapshot(), study.store.ranked()).reason
    trials = study.store.trials()
    assert Objective()(trials[0].score()) > Objective()(trials[1].score())


def test_optuna_is_told_the_objective_and_of_open_trials_a_value_on_its_scale(study: RunnableStudy):
    groups = study.store.group_of_case()
    standings = RaceState(
        study.store.ledger, SPACE, study.plan, groups, "none", study.store.race_file, study.objective
    )
    for trial in study.store.optuna_study().get_trials():
        standings.enter(trial)
    assert standings.value(0) == pytest.approx(dice(0.5)) and standings.value(1) == pytest.approx(dice(0.7))
    mean, worst = standings.scores[0].metrics["dice"], dice(0.5)  # of the incumbent, by means
    assert standings.value(2) == pytest.approx(dice(0.6) - dice(0.95) + worst, abs=1e-6)
    assert standings.race.estimate(2) == pytest.approx(dice(0.6) - dice(0.95) + mean, abs=1e-6)


def test_centers_count_alike_however_many_images_they_have(centers: RunnableStudy):
    study = centers.with_options(objectives=("center-mean",))
    study.store.begin(study.space, study.plan, study.spec)
    shares = {fold.name: 0.5 + 0.2 * number for number, fold in enumerate(study.plan.folds)}
    finish(study, 1e-3, [*shares.values()])
    ((_, score),) = study.store.ranked()
    by_fold = sorted(map(dice, shares.values()))
    assert sorted(study.objective.by_center(score).values()) == pytest.approx(by_fold)
    assert study.objective(score) == pytest.approx(sum(by_fold) / len(by_fold))
    assert objective_over("worst-center", study.datasets)(score) == pytest.approx(by_fold[0])


def test_a_study_keeps_its_objective(study: RunnableStudy):
    with pytest.raises(BadStudy, match="objectives: was worst-fold, now mean"):
        study.store.begin(study.space, study.plan)


def test_a_study_from_before_there_were_objectives_has_the_mean(tmp_path: Path):
    study = formula_study(tmp_path, num_trials=1)
    study.store.begin(study.space, study.plan, study.spec)
    manifest = json.loads(study.store.manifest_file.read_text())
    del manifest["objectives"]
    study.store.manifest_file.write_text(json.dumps(manifest))
    study.store.begin(study.space, study.plan, study.spec)
    assert study.store.objective() == Objective()


@pytest.mark.parametrize("race", ["paired"])
def test_races_between_means_are_refused_for_other_objectives(study: RunnableStudy, race):
    with pytest.raises(BadStudy, match="use --race asha or none"):
        check(study.with_options(race=race), Machine())
    check(study.with_options(race=race, objectives=("mean",)), Machine())
    check(study.with_options(race="asha"), Machine())


def test_what_the_split_cannot_give_is_refused(study: RunnableStudy, centers: RunnableStudy):
    assert "have none" in objective_problems(objective_over("worst-center", study.datasets), study.plan)[0]
    assert not objective_problems(objective_over("worst-center", centers.datasets), centers.plan)
    one_fold = make_plan("holdout", study.datasets, seed=0)
    assert "found one" in objective_problems(Objective("worst-fold"), one_fold)[0]
    assert not objective_problems(Objective("worst-fold"), five_fold(study.datasets, seed=0))
