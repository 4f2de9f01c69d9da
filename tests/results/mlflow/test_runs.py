"""The runs of a study in a real MLflow database: written twice they are there once."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from orchestrator.results.mlflow.client import connect
from orchestrator.results.mlflow.runs.study_runs import StudyRuns
from orchestrator.results.mlflow.ui.views import view_tags
from orchestrator.results.views.followed_cases import FollowedImage

SOURCE, UNSEEN = (
    ("Kvasir-SEG", "a" * 64, 1000, "source"),
    ("CVC-ClinicDB", "b" * 64, 612, "unseen"),
)
AT = 1_700_000_000_000
Open = Callable[..., StudyRuns]


@pytest.fixture
def open_runs(mlflow_uri: str, tmp_path: Path, request: pytest.FixtureRequest) -> Open:
    """Runs of a study named after the test; called again, it is the same study after a restart."""

    def open_again(**tags: str) -> StudyRuns:
        return StudyRuns(connect(mlflow_uri), request.node.name, str(tmp_path / "artifacts"), tags)

    return open_again


@pytest.fixture
def find_runs(mlflow_uri: str, request: pytest.FixtureRequest) -> Callable[[], dict[str, Run]]:
    """All runs of the test's study by name; a name given twice is an error."""

    def find() -> dict[str, Run]:
        client = connect(mlflow_uri)
        experiment = client.get_experiment_by_name(request.node.name)
        runs = client.search_runs([experiment.experiment_id])
        by_name = {run.info.run_name: run for run in runs}
        assert len(by_name) == len(runs)
        return by_name

    return find


def rows(*epochs: int) -> list[dict[str, float]]:
    return [{"epoch": epoch, "train_loss": 1 / (epoch + 1), "val_dice": epoch / 10} for epoch in epochs]


def write_everything(runs: StudyRuns, state: str = "complete") -> None:
    runs.study([SOURCE, UNSEEN], AT)
    runs.study_files({"space.toml": "network = 'unet'"}, AT)
    runs.trial(3, {"network": "unet", "learning_rate": 1e-3, "pretrained": False}, [SOURCE], AT)
    runs.epochs(3, "0", "fit0", rows(0), AT)
    runs.epochs(3, "0", "fit0", rows(1), AT)
    runs.fold_finished(3, "0", "fit0", rows(0, 1, 2), {"dice": 0.8}, AT)
    runs.fold_finished(3, "1", "fit1", rows(0, 1), {"dice": 0.7}, AT)
    runs.trial_finished(3, {"dice": 0.75, "threshold": 0.5}, state, None, AT)
    runs.study_tags({"ended_by": "epochs"}, AT)
    runs.summary({"best_dice": 0.75}, AT)


def steps(uri: str, run: Run, metric: str = "val_dice") -> list[int]:
    return sorted(point.step for point in connect(uri).get_metric_history(run.info.run_id, metric))


def test_a_study_is_one_run_with_its_files_and_datasets(open_runs, find_runs, mlflow_uri, request):
    write_everything(open_runs())
    run = find_runs()[request.node.name]
    assert (run.info.status, run.data.tags["role"]) == ("FINISHED", "study")
    assert run.data.metrics == {"best_dice": 0.75} and run.data.tags["ended_by"] == "epochs"
    assert [file.path for file in connect(mlflow_uri).list_artifacts(run.info.run_id)] == ["space.toml"]
    found = {(use.dataset.name, use.dataset.digest, use.tags[0].value) for use in run.inputs.dataset_inputs}
    assert found == {("Kvasir-SEG", "a" * 36, "source"), ("CVC-ClinicDB", "b" * 36, "unseen")}


def test_a_trial_carries_flat_parameters_scores_and_its_source_data(open_runs, find_runs):
    write_everything(open_runs())
    run = find_runs()["trial-003 unet"]
    assert run.data.params == {"network": "unet", "learning_rate": "0.001", "pretrained": "false"}
    assert run.data.metrics == {"dice": 0.75, "threshold": 0.5}
    assert run.data.tags["state"] == "complete" and run.info.status == "FINISHED"
    assert [use.dataset.name for use in run.inputs.dataset_inputs] == ["Kvasir-SEG"]


def test_folds_are_children_of_their_trial_and_carry_the_curves(open_runs, find_runs, mlflow_uri):
    write_everything(open_runs())
    found = find_runs()
    for name, epochs in {"trial-003/fold-0": [1, 2, 3], "trial-003/fold-1": [1, 2]}.items():
        assert found[name].data.tags["mlflow.parentRunId"] == found["trial-003 unet"].info.run_id
        assert steps(mlflow_uri, found[name]) == epochs
        assert found[name].info.status == "FINISHED"


def test_writing_everything_again_after_a_restart_doubles_nothing(open_runs, find_runs, mlflow_uri):
    for _ in range(2):
        write_everything(open_runs())
    found = find_runs()
    assert len(found) == 4
    assert steps(mlflow_uri, found["trial-003/fold-0"]) == [1, 2, 3]
    assert steps(mlflow_uri, found["trial-003 unet"], "dice") == [0]
    assert len(found["trial-003 unet"].inputs.dataset_inputs) == 1


def test_a_fold_goes_on_after_a_restart_where_its_curve_ended(open_runs, find_runs, mlflow_uri):
    before = open_runs()
    before.trial(0, {"network": "unet"}, [], AT)
    before.epochs(0, "0", "fit0", rows(0, 2), AT)  # a kill kept the epoch between from being written
    before.interrupted()
    assert find_runs()["trial-000/fold-0"].info.status == "KILLED"
    runs = open_runs()
    runs.epochs(0, "0", "fit0", rows(2, 3), AT)
    assert find_runs()["trial-000/fold-0"].info.status == "RUNNING"
    runs.fold_finished(0, "0", "fit0", rows(0, 1, 2, 3), {"best_epoch": 3}, AT)
    run = find_runs()["trial-000/fold-0"]
    assert (run.info.status, steps(mlflow_uri, run)) == ("FINISHED", [1, 2, 3, 4])
    assert run.data.metrics["best_epoch"] == 4


def test_a_fold_that_was_open_before_a_restart_ends_with_its_trial(open_runs, find_runs):
    open_runs().epochs(0, "0", "fit0", rows(0), AT)  # killed: nothing was ended
    runs = open_runs()
    runs.epochs(1, "0", "fit1", rows(0), AT)
    runs.trial_finished(0, {}, "stopped", "behind", AT)
    assert find_runs()["trial-000/fold-0"].info.status == "FINISHED"
    assert find_runs()["trial-001/fold-0"].info.status == "RUNNING"
    runs.interrupted()
    assert find_runs()["trial-001/fold-0"].info.status == "KILLED"


def test_epochs_have_the_times_that_their_record_gives(open_runs, find_runs, mlflow_uri):
    timed = [row | {"seconds": 2.0} for row in rows(0, 1, 2)]
    open_runs().fold_finished(0, "0", "fit0", timed, {}, AT, AT - 7000)
    run = find_runs()["trial-000/fold-0"]
    points = connect(mlflow_uri).get_metric_history(run.info.run_id, "val_dice")
    assert sorted(AT - point.timestamp for point in points) == [0, 2000, 4000]
    assert (run.info.start_time, run.info.end_time) == (AT - 7000, AT)


def test_a_study_that_an_earlier_version_began_at_epoch_0_goes_on_so_and_says_so(
    open_runs, find_runs, mlflow_uri, request, tmp_path, caplog
):
    client = connect(mlflow_uri)
    experiment = client.create_experiment(request.node.name, str(tmp_path / "artifacts"))
    tags = {"role": "fold", "trial": "0", "fit_id": "fit0", "mlflow.runName": "trial-000/fold-0"}
    run = client.create_run(experiment, tags=tags)
    client.log_metric(run.info.run_id, "val_dice", 0.0, step=0)
    runs = open_runs()
    runs.fold_finished(0, "0", "fit0", rows(0, 1, 2), {"best_epoch": 2}, AT)
    runs.fold_finished(0, "1", "fit1", rows(0, 1), {}, AT)
    assert steps(mlflow_uri, find_runs()["trial-000/fold-0"]) == [0, 1, 2]
    assert steps(mlflow_uri, find_runs()["trial-000/fold-1"]) == [0, 1]
    assert find_runs()["trial-000/fold-0"].data.metrics["best_epoch"] == 2
    assert "were begun with epochs counted from 0, and continue so" in caplog.text


def test_a_failed_trial_says_why_and_takes_its_open_folds_with_it(open_runs, find_runs):
    runs = open_runs()
    runs.trial(1, {"network": "unet"}, [], AT)
    runs.epochs(1, "0", "fit0", rows(0), AT)
    runs.trial_finished(1, {}, "failed", "loss was nan in epoch 1", AT)
    found = find_runs()
    assert found["trial-001 unet"].data.tags["error"] == "loss was nan in epoch 1"
    assert {found[name].info.status for name in ("trial-001 unet", "trial-001/fold-0")} == {"FAILED"}


def test_a_run_that_a_server_made_late_once_more_is_deleted(open_runs, find_runs, mlflow_uri, caplog):
    write_everything(open_runs())
    client, late = connect(mlflow_uri), find_runs()["trial-003/fold-0"]
    tags = {name: late.data.tags[name] for name in ("role", "trial", "fit_id", "study", "first_epoch")}
    client.create_run(late.info.experiment_id, run_name="trial-003/fold-0", tags=tags)
    open_runs()
    assert find_runs()["trial-003/fold-0"].info.run_id == late.info.run_id
    assert "had the run of 'fold 3 fit0' twice" in caplog.text


def test_two_trials_may_share_a_fit(open_runs, find_runs):
    runs = open_runs()
    for number in (0, 1):
        runs.trial(number, {"network": "unet"}, [], AT)
        runs.fold_finished(number, "0", "same", rows(0, 1), {"dice": 0.8}, AT)
    assert {"trial-000/fold-0", "trial-001/fold-0"} <= find_runs().keys()


def test_pictures_and_late_scores_join_a_trial_that_has_ended(open_runs, find_runs, mlflow_uri):
    runs = open_runs()
    write_everything(runs)
    runs.pictures(3, {"examples.png": b"content"}, AT)
    runs.trial_scores(3, {"unseen/CVC-ClinicDB/dice": 0.6}, {"champion": "true"}, AT)
    run = find_runs()["trial-003 unet"]
    (picture,) = connect(mlflow_uri).list_artifacts(run.info.run_id, "overlays")
    assert picture.path == "overlays/examples.png"
    assert run.data.metrics["unseen/CVC-ClinicDB/dice"] == 0.6 and run.info.status == "FINISHED"


def test_a_study_that_goes_on_has_one_champion(open_runs, find_runs):
    for champion in (3, 4, 5):
        runs = open_runs()
        for number in (3, 4, 5):
            runs.trial(number, {"network": "unet"}, [], AT)
            runs.trial_finished(number, {"dice": 0.9}, "complete", None, AT)
        runs.trial_scores(champion, {"test_dice": 0.7}, {"champion": "true"}, AT)
    named = {name: run.data.tags.get("champion") for name, run in find_runs().items()}
    assert named["trial-003 unet"] == named["trial-004 unet"] == "false"
    assert named["trial-005 unet"] == "true"


def test_no_run_of_a_study_that_is_over_is_left_running(open_runs, find_runs):
    runs = open_runs()
    write_everything(runs)
    runs.epochs(3, "re-evaluation-0", "late", rows(0), AT)
    runs.trial(4, {"network": "unet"}, [], AT)
    runs.summary({"dice": 0.5}, AT)
    status = {name: run.info.status for name, run in find_runs().items()}
    assert status["trial-003/re-evaluation-0"] == status["trial-004 unet"] == "KILLED"
    assert set(status.values()) == {"FINISHED", "KILLED"}


def test_a_long_curve_fits_through_the_limits_of_mlflow(open_runs, find_runs, mlflow_uri):
    open_runs().fold_finished(0, "refit", "fit0", rows(*range(1100)), {}, AT)
    assert len(steps(mlflow_uri, find_runs()["trial-000/refit"])) == 1100


def test_runs_are_known_again_whatever_else_their_study_is_tagged_with(open_runs, find_runs):
    for version in ("older", "newer"):
        open_runs(study_id="same", **{version: "tag"}).trial(0, {"network": "unet"}, [], AT)
    assert find_runs().keys() == {"trial-000 unet"}


def test_a_store_that_cannot_be_written_to_raises_and_prints_no_traceback(
    mlflow_uri, request, capfd, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # MLflow takes file:/... for a folder below it, and makes it
    experiment = connect(mlflow_uri).create_experiment(request.node.name)
    store = mlflow_uri.replace("sqlite:///", "sqlite:///file:") + "?mode=ro&uri=true"
    with pytest.raises(MlflowException, match="readonly database"):
        connect(store).create_run(experiment)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_what_mlflow_refuses_is_named_once_and_the_rest_of_the_same_call_is_written(
    open_runs, find_runs, caplog
):
    runs = open_runs()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            runs.trial_finished(0, {"what is 100%?": 1.0, "dice": 0.5}, "complete", None, AT)
    run = find_runs()["trial-000"]
    assert run.data.metrics == {"dice": 0.5} and run.info.status == "FINISHED"
    assert caplog.text.count("MLflow refused what is 100%? of run 'trial 0'") == 1


def test_an_experiment_that_was_deleted_comes_back_with_its_study(open_runs, mlflow_uri, request):
    write_everything(open_runs())
    client = connect(mlflow_uri)
    client.delete_experiment(client.get_experiment_by_name(request.node.name).experiment_id)
    write_everything(open_runs())
    assert client.get_experiment_by_name(request.node.name).lifecycle_stage == "active"


def test_a_study_that_takes_an_old_ones_name_leaves_the_old_runs_alone(open_runs, mlflow_uri, request):
    for study_id in ("first", "second"):
        open_runs(study_id=study_id).trial(0, {"learning_rate": study_id}, [], AT)
    client = connect(mlflow_uri)
    experiment = client.get_experiment_by_name(request.node.name)
    runs = client.search_runs([experiment.experiment_id], "tags.role = 'trial'")
    assert {run.data.params["learning_rate"] for run in runs} == {"first", "second"}


def test_a_verdict_of_the_race_is_on_the_trials_tags_with_its_numbers(open_runs, find_runs):
    runs = open_runs()
    runs.trial(2, {"learning_rate": 1e-3}, [], AT)
    for action, chance in (("pause", 0.125), ("stop", 0.01)):
        numbers = {"chance": chance}
        runs.verdict(2, {"action": action, "reason": "worse", "against": 0, "numbers": numbers}, AT)
    runs.trial_finished(2, {}, "stopped", "worse", AT)
    (run,) = find_runs().values()
    assert run.info.status == "FINISHED"
    tags = {name: value for name, value in run.data.tags.items() if name.startswith("race")}
    assert tags == {
        "race": "stop",
        "race_reason": "worse",
        "race_against": "0",
        "race_numbers": '{"chance": 0.01}',
    }


def test_images_by_epoch_are_files_as_mlflow_names_them_and_once(
    mlflow_uri: str, open_runs: Open, find_runs: Callable[[], dict[str, Run]]
):
    drawn = [FollowedImage("drawn/a", epoch, np.full((8, 8, 3), 9, np.uint8)) for epoch in (-1, 0, 4)]
    num_drawn = []

    def images() -> list[FollowedImage]:
        num_drawn.append(1)
        return drawn

    for _ in range(2):  # the second time it is cut off before the fold is complete
        runs = open_runs()
        runs.trial(3, {"network": "unet"}, [SOURCE], AT)
        runs.followed(3, "0", "fit0", images, AT, AT)
    runs.fold_finished(3, "0", "fit0", rows(0, 1), {"dice": 0.8}, AT)
    open_runs().followed(3, "0", "fit0", images, AT, AT)
    assert len(num_drawn) == 2
    run = find_runs()["trial-003/fold-0"]
    names = [file.path for file in connect(mlflow_uri).list_artifacts(run.info.run_id, "images")]
    assert len(names) == 6 and run.data.tags["mlflow.loggedImages"] == "True"
    found = {tuple(name.removeprefix("images/").split("+")[:4]) for name in names}
    assert found == {("followed a", "step", step, "timestamp") for step in ("0", "1", "5")}


def test_a_fit_without_maps_has_no_images(open_runs: Open, find_runs: Callable[[], dict[str, Run]]):
    runs = open_runs()
    runs.trial(3, {"network": "unet"}, [SOURCE], AT)
    runs.followed(3, "0", "fit0", list, AT, AT)
    assert "mlflow.loggedImages" not in find_runs()["trial-003/fold-0"].data.tags


def test_the_view_of_followed_cases_has_their_images_and_curves():
    tags = view_tags(["learning_rate"], [], ["followed a", "followed b"], num_folds=5)
    state = json.loads(json.loads(tags["mlflow.sharedViewState.followed"])["state"])
    first, second = state["compareRunCharts"]
    assert (first["type"], first["imageKeys"]) == ("IMAGE", ["followed a", "followed b"])
    assert (
        second["metricKey"] == "val_dice" and state["searchFilter"] == "tags.`mlflow.loggedImages` = 'True'"
    )


@pytest.mark.parametrize(("num_folds", "limited"), [(5, "dice_cross_fitted"), (1, "dice")])
def test_the_table_of_trials_shows_the_limits_of_the_score_that_they_are_of(num_folds: int, limited: str):
    tags = view_tags(["learning_rate"], [], [], num_folds)
    columns = json.loads(json.loads(tags["mlflow.sharedViewState.trials"])["state"])["selectedColumns"]
    shown = [name for name in columns if "_low" in name or "_high" in name]
    assert shown == [f"metrics.`{limited}_low`", f"metrics.`{limited}_high`"]
    assert f"metrics.`{limited}`" in columns
