"""What a running study tells, where no other test of this room needs a whole study for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from formula import SPACE, carry_out, finish, formula_study
from hands import Hands
from mlflow.entities import Run

from orchestrator.results.mlflow.client import connect
from orchestrator.results.mlflow.study_report import Report, reevaluation_metrics
from orchestrator.search.forecast.width import WidthChoice
from orchestrator.search.goals.objective import Objective
from orchestrator.search.space.space_file import parse_space
from orchestrator.search.store.study_store import StudyStore
from orchestrator.selection.reevaluation import Reevaluated
from orchestrator.study.champion import choose_champion
from orchestrator.study.run import begin
from orchestrator.training.ray.lanes import Shape


def test_the_width_that_was_chosen_is_said_with_its_numbers_and_is_a_tag_of_the_study(
    tmp_path: Path, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    study = formula_study(tmp_path, num_trials=1)
    study.home.begin(study.space, study.plan, study.spec)
    said: list[str] = []
    choice = WidthChoice(
        2, "2 worker(s) per fit: on 4 GPUs 40 settings are forecast to take 3 h with 1, 2 h with 2"
    )
    with Report(study.home, mlflow_uri, say=said.append, show=lambda *_: None) as report:
        report.started(study, Shape(2, 2, 1, 1, "cuda"))
        report.width_chosen(choice)
        report.finished(None)
    client = connect(mlflow_uri)
    experiment = client.get_experiment_by_name(study.home.name)
    (run,) = client.search_runs([experiment.experiment_id], "tags.workers_per_fit = '2'")
    assert run.data.tags["workers_per_fit_why"] == choice.why
    assert choice.why in said


def test_a_fold_is_scored_by_masks_that_its_trial_can_have(
    tmp_path: Path, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    space = parse_space(SPACE.text.replace("[fixed]", "[fixed]\nthreshold = 0.5"))
    study = replace(formula_study(tmp_path, num_trials=1), space=space)
    begin(study)
    bins = np.zeros((2, 256))
    bins[0, 200] = bins[1, 250] = 1000  # as many false alarms as polyp, gone at thresholds above 200/256
    finish(study, 1e-4, [bins])
    (trial,), said = study.home.trials(), []
    with Report(study.home, mlflow_uri, say=said.append, show=lambda *_: None) as report:
        report.started(study, Shape(1, 1, 1, 0, "cpu"))
        report.fold_finished(0, 0, trial.records[0], trial.configuration.masks)
    assert "dice 66.67  best epoch 1/1" in said[-1]
    (run,) = runs_of(study.home, mlflow_uri, "fold")
    assert run.data.metrics["threshold"] == 0.5
    assert run.data.metrics["dice"] == pytest.approx(2 / 3)


def test_what_a_second_scoring_shows_is_named_by_the_objective():
    one = Reevaluated(trial=1, search=0.8, fresh=0.6, both=0.7)
    assert reevaluation_metrics(one, Objective()).keys() == {
        "rescored_dice",
        "rescored_dice_fresh",
        "search_optimism",
    }
    found = reevaluation_metrics(one, Objective("worst-fold"))
    assert found["rescored_worst_fold_dice"] == 0.7 and found["rescored_worst_fold_dice_fresh"] == 0.6
    assert "rescored_dice" not in found


def test_a_server_that_is_told_of_a_finished_study_alone_has_whole_trials(tmp_path: Path, mlflow_uri: str):
    study = formula_study(tmp_path, num_trials=2).with_options(objectives=("mean", "inference_ms"))
    champion = choose_champion(study.home, Hands(carry_out(study, [1e-4, 1e-3])))
    with Report(study.home, mlflow_uri, say=lambda line: None, show=lambda *_: None) as report:
        report.finished(champion)
    runs = runs_of(study.home, mlflow_uri, "trial")
    assert {run.info.run_name: run.info.status for run in runs} == {
        "trial-000 unet": "FINISHED",
        "trial-001 unet": "FINISHED",
    }
    assert {run.data.params["learning_rate"] for run in runs} == {"0.0001", "0.001"}
    assert [run.data.tags["trial"] for run in runs if run.data.tags.get("champion") == "true"] == ["1"]


def runs_of(home: StudyStore, uri: str, role: str) -> list[Run]:
    """Its runs of that role in MLflow."""
    client = connect(uri)
    experiment = client.get_experiment_by_name(home.name)
    of_study = f"tags.role = '{role}' and tags.study_id = '{home.study_id}'"
    return list(client.search_runs([experiment.experiment_id], of_study))
