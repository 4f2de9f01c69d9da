"""What the runs of a study hold: parameters, data, intervals, descriptions, saved views; also of earlier versions."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from formula import carry_out, finish, formula_study
from in_mlflow import runs_of, sync_mlflow
from inline_lanes import InlineLanes
from mlflow.entities import Experiment
from optuna.trial import TrialState

from orchestrator.results.mlflow.client import connect, default_uri
from orchestrator.results.mlflow.ui.moved_home import mend_moved_home
from orchestrator.results.mlflow.ui.views import VIEW
from orchestrator.results.report.files import report_files
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.search.store.study_store import StudyStore
from orchestrator.study.champion import choose_champion
from orchestrator.study.run import begin
from orchestrator.study.runnable_study import RunnableStudy

NOTE = "mlflow.note.content"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, mlflow_uri: str) -> RunnableStudy:
    """One finished trial, one that was stopped after a fold, both in MLflow."""
    study = formula_study(tmp_path_factory.mktemp("home"), num_trials=2)
    champion = choose_champion(study.store, InlineLanes(carry_out(study, [1e-3])))
    finish(study, 1e-2, [0.5])
    study.store.optuna_study().tell(1, state=TrialState.PRUNED)
    sync_mlflow(study.store, mlflow_uri, champion=champion)
    return study


def experiment(study: RunnableStudy, uri: str) -> Experiment:
    return connect(uri).get_experiment(runs_of(study.store, uri)[0].info.experiment_id)


def test_every_trial_has_its_whole_recipe_and_the_study_its_budget_race_and_seed(
    study: RunnableStudy, mlflow_uri: str
):
    for run in runs_of(study.store, mlflow_uri, "trial"):
        assert {"loss", "optimizer", "weight_decay", "schedule", "seed", "epochs"} <= run.data.params.keys()
    (run,) = runs_of(study.store, mlflow_uri, "study")
    params = run.data.params
    assert (params["budget"], params["race"], params["sampler"]) == ("2 trials", "none", "surrogate")
    assert (params["seed"], params["num_folds"], params["datasets"]) == ("0", "5", "drawn")


def test_a_fold_has_its_own_seed_and_the_images_it_was_trained_and_validated_on(
    study: RunnableStudy, mlflow_uri: str
):
    (fold, *_) = [run for run in runs_of(study.store, mlflow_uri, "fold") if run.data.tags["fold"] == "1"]
    spec = study.store.ledger.read(fold.data.tags["fit_id"]).spec
    assert fold.data.params["seed"] == str(spec.recipe.seed) and fold.data.params["learning_rate"] == "0.001"
    used = {
        one.tags[0].value: json.loads(one.dataset.profile)["num_cases"] for one in fold.inputs.dataset_inputs
    }
    assert used == {"training": len(spec.train), "validation": len(spec.val)}


def test_no_metric_has_the_name_of_a_parameter(study: RunnableStudy, mlflow_uri: str):
    for run in runs_of(study.store, mlflow_uri):
        assert not run.data.metrics.keys() & run.data.params.keys(), run.info.run_name
    (run,) = [
        run for run in runs_of(study.store, mlflow_uri, "trial") if run.data.tags["state"] == "complete"
    ]
    assert run.data.params["numeric_precision"] == "auto" and 0 < run.data.metrics["precision"] <= 1


def test_a_finished_trial_has_the_limits_of_its_dice_and_a_stopped_one_shares_its_axes(
    study: RunnableStudy, mlflow_uri: str
):
    done, stopped = sorted(runs_of(study.store, mlflow_uri, "trial"), key=lambda run: run.data.tags["trial"])
    metrics = done.data.metrics
    assert (
        metrics["dice_cross_fitted_low"] <= metrics["dice_cross_fitted"] <= metrics["dice_cross_fitted_high"]
    )
    assert "dice_low" not in metrics, "of another score than dice, which may lie outside"
    shared = {"best_val_dice", "dice_on_seen_folds", "folds_seen", "seconds"}
    assert shared <= stopped.data.metrics.keys() & metrics.keys() and "dice" not in stopped.data.metrics
    assert stopped.data.metrics["dice_on_seen_folds"] == pytest.approx(2 / 3)  # of half of every polyp


def test_experiment_study_trials_and_champion_are_described(study: RunnableStudy, mlflow_uri: str):
    note = experiment(study, mlflow_uri).tags[NOTE]
    assert "which `learning_rate` of unet" in note and "| `dice_on_seen_folds`" in note
    (whole,) = runs_of(study.store, mlflow_uri, "study")
    done, stopped = sorted(runs_of(study.store, mlflow_uri, "trial"), key=lambda run: run.data.tags["trial"])
    assert f"/runs/{done.info.run_id}?workflowType=machine_learning" in whole.data.tags[NOTE]
    assert "**Champion**" in done.data.tags[NOTE]
    assert "Stopped by the race after 1 of 5 folds" in stopped.data.tags[NOTE]


def test_the_table_of_trials_is_a_saved_view_with_dice_and_what_was_searched(
    study: RunnableStudy, mlflow_uri: str
):
    view = json.loads(experiment(study, mlflow_uri).tags[f"{VIEW}trials"])
    state = json.loads(view["state"])
    assert view["name"] == "Trials by Dice" and state["orderByKey"] == "metrics.`dice`"
    wanted = ("metrics.`dice`", "metrics.`dice_cross_fitted_low`", "params.`learning_rate`", "tags.`state`")
    assert set(wanted) <= set(state["selectedColumns"])


def test_a_description_that_a_user_wrote_stays(study: RunnableStudy, mlflow_uri: str):
    client, (run,) = connect(mlflow_uri), runs_of(study.store, mlflow_uri, "study")
    client.set_tag(run.info.run_id, NOTE, "my own words")
    sync_mlflow(study.store, mlflow_uri)
    assert client.get_run(run.info.run_id).data.tags[NOTE] == "my own words"


def test_a_stopped_trial_of_an_earlier_version_is_no_failure_after_a_sync(
    study: RunnableStudy, mlflow_uri: str
):
    client = connect(mlflow_uri)
    (old,) = [run for run in runs_of(study.store, mlflow_uri, "trial") if run.data.tags["state"] == "stopped"]
    client.delete_tag(old.info.run_id, "layout")  # earlier versions wrote none
    client.set_tag(old.info.run_id, "error", "worse")
    client.set_terminated(old.info.run_id, "KILLED")
    before = len(runs_of(study.store, mlflow_uri))
    sync_mlflow(study.store, mlflow_uri)
    now = client.get_run(old.info.run_id)
    assert now.info.status == "FINISHED" and "error" not in now.data.tags
    assert len(runs_of(study.store, mlflow_uri)) == before


def test_a_moved_home_names_its_pictures_where_they_are_now(tmp_path: Path):
    study = formula_study(tmp_path / "old", num_trials=1)
    carry_out(study, [1e-3])
    sync_mlflow(study.store, default_uri(tmp_path / "old"))
    shutil.move(tmp_path / "old", tmp_path / "new")
    store = StudyStore(tmp_path / "new", "formula")
    old, changed = mend_moved_home(store.home) or ("", 0)
    assert old == tmp_path / "old" and changed >= 8  # the experiment and its runs
    (run,) = runs_of(store, default_uri(store.home), "study")
    client = connect(default_uri(store.home))
    assert "splits.json" in {file.path for file in client.list_artifacts(run.info.run_id)}
    assert mend_moved_home(store.home) is None


def test_a_home_that_another_path_leads_to_is_left_as_it_is(tmp_path: Path):
    study = formula_study(tmp_path / "home", num_trials=1)
    begin(study)
    sync_mlflow(study.store, default_uri(tmp_path / "home"), is_over=False)
    (tmp_path / "link").symlink_to(tmp_path / "home")
    assert mend_moved_home(tmp_path / "link") is None


@pytest.mark.slow
def test_the_run_of_a_study_has_its_report_drawn_once_and_again_where_records_changed(
    tmp_path: Path,
):
    study, drawn = formula_study(tmp_path / "home", num_trials=2), []
    uri = default_uri(tmp_path / "home")
    champion = choose_champion(study.store, InlineLanes(carry_out(study, [1e-3])))

    def report(snapshot: StudySnapshot) -> dict[str, bytes]:
        drawn.append(snapshot)
        return report_files(snapshot)

    for _ in range(2):
        sync_mlflow(study.store, uri, champion=champion, report=report)
    (run,) = runs_of(study.store, uri, "study")
    assert len(drawn) == 1
    page = Path(connect(uri).download_artifacts(run.info.run_id, "report/report.html", str(tmp_path)))
    text = page.read_text()
    assert "formula" in text and f"trial {champion.number}" in text.lower()
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=.?https?://", text)  # opens without a network
    carry_out(study, [2e-3])
    sync_mlflow(study.store, uri, champion=champion, report=report)
    assert len(drawn) == 2
