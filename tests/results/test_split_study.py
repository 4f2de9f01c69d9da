"""What is said of a study on each kind of split: leaderboard, best, card and MLflow; its fits are made by formula."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from formula import SPACE, FormulaJobRunner
from in_mlflow import runs_of, sync_mlflow

from orchestrator.cli import main
from orchestrator.data.cases import load_dataset
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.data.splits.plan import make_plan
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.results.export.handover import trial_card
from orchestrator.results.sinks.console import ConsoleSink
from orchestrator.search.budget.gate import BudgetGate
from orchestrator.search.budget.usage import ResourceUsage
from orchestrator.search.engine import LaneCapacity
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.search.score_job import ScoreJob
from orchestrator.search.space.space_file import parse_space
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.store.trials import Champion, champion_fit, finished_score, outside_cases
from orchestrator.search.study_spec import StudySpec
from orchestrator.study.run import make_engine
from orchestrator.study.runnable_study import RunnableStudy
from orchestrator.training.ray.lanes import Shape

KINDS = ("holdout", "k-fold:2", "repeated:2x3", "leave-one-center-out", "leave-one-dataset-out")
SAMPLED = parse_space(SPACE.text.replace("[fixed]", "[fixed]\nthreshold = 0.5"))
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Finished:
    """A study of one trial that is over."""

    study: RunnableStudy
    store: StudyStore
    plan: SplitPlan

    def best(self, run: Callable[[str], Any]) -> list[dict[str, Any]]:
        return json.loads(run(f"best {self.store.name} --json"))["scores"]

    def card(self) -> str:
        (trial,) = self.store.trials()
        return trial_card(self.store.snapshot(), trial, finished_score(trial), [champion_fit(trial)])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets of three centers, and a third that is unseen."""
    home = tmp_path_factory.mktemp("home")
    for seed, (name, num_cases) in enumerate({"near": 30, "next": 30, "far": 8}.items()):
        frames = home / f"{name}-frames"
        draw_dataset(frames, num_cases=num_cases, size=32, seed=seed)
        add_dataset(home, name, frames, groups=frames / "groups.csv", allow_empty=True)
    return home


@pytest.fixture(scope="module")
def finish(home: Path) -> Callable[..., Finished]:
    """Carry a study through, without Ray, as its trials, lanes and champion would."""
    done: dict[str, Finished] = {}

    def finish(splits: str, space: Any = SPACE) -> Finished:
        name = f"{splits.replace(':', '-')}-{space.digest}"
        if name not in done:
            done[name] = carry_out(name, splits, space)
        return done[name]

    def carry_out(name: str, splits: str, space: Any) -> Finished:
        sources, far = (load_dataset(home, "near"), load_dataset(home, "next")), load_dataset(home, "far")
        near_duplicates = [
            (sources[0].cases[2].id, far.cases[0].id),
            (sources[0].cases[3].id, sources[1].cases[5].id),
        ]
        plan = make_plan(splits, sources, seed=0, unseen=[far], near_duplicates=near_duplicates)
        study = RunnableStudy(
            StudyStore(home, name), space, plan, sources, (far,), StudySpec(trials=1, rescore=0)
        )
        study.store.begin(space, plan)
        optuna = study.store.optuna_study()
        optuna.enqueue_trial(space.baseline)
        trial = optuna.ask()
        configuration = space.configuration(space.sample(trial))
        work = FormulaJobRunner(study.store.ledger)
        for spec in fold_specs(configuration, plan):
            work(spec, CPU, 0, lambda row: True)
        optuna.tell(trial, 0.5)
        (told,) = study.store.trials()
        champion = champion_fit(told)
        for where, case_ids in outside_cases(plan, (far,)).items():
            work(ScoreJob(champion.fit_id, where, {}, case_ids), CPU, 0, lambda row: True)
        study.store.choose_champion(Champion(0, champion.fit_id))
        return Finished(study, study.store, plan)

    return finish


@pytest.fixture
def run(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(home))

    def run(line: str) -> str:
        monkeypatch.setattr(sys, "argv", ["orchestrator", *line.split()])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert not ended.value.code, said.err
        return said.out

    return run


@pytest.mark.parametrize("splits", KINDS)
def test_every_command_reads_a_study_on_any_split(splits: str, finish, run):
    finished = finish(splits)
    plan = finished.plan
    (row,) = json.loads(run(f"leaderboard {finished.store.name} --json"))
    assert (row["folds_done"], row["num_folds"]) == (len(plan.folds), len(plan.folds))
    assert row["outside"].keys() == {"test", "far"}
    assert finished.store.name in run(f"leaderboard {finished.store.name}")
    assert "hold-out test" in run(f"best {finished.store.name}")


@pytest.mark.parametrize("splits", KINDS)
def test_each_image_counts_once_and_each_fold_has_its_name(splits: str, finish, run):
    finished = finish(splits)
    *folds, total, test, far = finished.best(run)
    validated = {id for fold in finished.plan.folds for id in fold.val}
    assert total["num_cases"] == len(validated)
    assert (test["num_cases"], far["num_cases"]) == (len(finished.plan.test), 8 - len(finished.plan.left_out))
    if splits != "holdout":
        assert [(line["name"], line["num_cases"]) for line in folds] == [
            (fold.name, len(fold.val)) for fold in finished.plan.folds
        ]
        assert total["name"] == "cross-validation"


def test_one_fold_is_called_what_it_is_and_never_cross_validation(finish, run):
    total, _, _ = finish("holdout").best(run)
    assert total["name"] == "validation, at a threshold chosen on it"
    total, _, _ = finish("holdout", SAMPLED).best(run)
    assert total["name"] == "validation"
    for space in (SPACE, SAMPLED):
        card = finish("holdout", space).card()
        assert "cross-valid" not in card and "weights: the one fold" in card and "1 fold, " in card
    assert "nothing here is cross-fitted" in finish("holdout").card()
    assert "cross-fitted" not in finish("holdout", SAMPLED).card()


def test_the_card_says_how_often_images_were_validated_and_what_was_left_out(finish):
    repeated, centers = finish("repeated:2x3").card(), finish("leave-one-center-out").card()
    assert "Every image was validated 2 times, and counts once, with its mean." in repeated
    dropped = len(finish("repeated:2x3").plan.left_out)
    assert "0 pairs within datasets and 2 between them were found, and are on one side;" in repeated
    assert dropped > 0 and f" {dropped} unseen images were dropped" in repeated
    assert f"{dropped} (near-duplicate in the training datasets)" in repeated
    dropped = finish("leave-one-center-out").plan.num_dropped
    assert dropped["twin in training"] > 0
    assert f"{dropped['twin in training']} (near-duplicate in training)" in centers
    assert "| center near/" in centers


def test_intervals_draw_groups_that_near_duplicates_have_merged(finish):
    store = finish("k-fold:2").store
    group_of = store.group_of_case()
    (sources, (far,)) = store.datasets()
    assert group_of[sources[0].cases[3].id] == group_of[sources[1].cases[5].id]
    assert group_of[sources[0].cases[2].id] == group_of[far.cases[0].id]


@pytest.mark.parametrize("splits", ["holdout", "leave-one-center-out"])
def test_mlflow_is_told_how_cases_were_split_and_only_scores_there_are(splits: str, finish, mlflow_uri: str):
    finished = finish(splits)
    plan = finished.plan
    said: list[str] = []
    with ConsoleSink(finished.store, say=said.append, show=lambda *_: None) as console:
        console.started(finished.study, Shape(1, 1, 1, 0, "cpu"))
    sync_mlflow(finished.store, mlflow_uri)
    runs = runs_of(finished.store, mlflow_uri)
    assert {run.data.tags["split"] for run in runs} == {plan.name}
    assert {run.data.tags["near_duplicate_pairs"] for run in runs} == {"2"}
    assert {run.data.tags["near_duplicate_pairs_between"] for run in runs} == {"2"}
    assert all("(near-duplicate in the training datasets)" in run.data.tags["dropped_cases"] for run in runs)
    folds = {run.data.tags["fold"] for run in runs if run.data.tags["role"] == "fold"}
    assert folds == ({"0"} if splits == "holdout" else {fold.name for fold in plan.folds})
    assert any("there is one fold" in line for line in said) == (splits == "holdout")
    assert any("left out of validation and tests" in line for line in said)


def test_a_search_knows_the_groups_of_near_duplicates_that_only_the_champion_is_scored_on(finish):
    finished = finish("k-fold:2")
    capacity = LaneCapacity(len(finished.plan.folds))
    gate = BudgetGate(finished.study.budget, ResourceUsage(finished.store.ledger), capacity.lanes)
    engine = make_engine(finished.study, capacity, gate)
    assert engine.state.group_of_case == finished.store.group_of_case()
