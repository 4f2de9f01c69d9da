from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.rest_utils import verify_rest_response

from orchestrator.common.errors import BadMachine
from orchestrator.results.mlflow import writer as tracking_module
from orchestrator.results.mlflow.client import connect
from orchestrator.results.mlflow.writer import MlflowWriter

DATASETS = [("Kvasir-SEG", "a" * 64, 1000, "source"), ("CVC-ClinicDB", "b" * 64, 612, "unseen")]
NOWHERE = "http://127.0.0.1:9"

Open = Callable[..., MlflowWriter]


@pytest.fixture
def open_tracking(mlflow_uri: str, tmp_path: Path, request: pytest.FixtureRequest) -> Open:
    """Tracking of a study named after the test; called again, it is the same study after a restart."""

    def open_again(uri: str = mlflow_uri) -> MlflowWriter:
        location = str(tmp_path / "artifacts")
        return MlflowWriter(
            uri, request.node.name, location, {"splits": "five-fold"}, spool=tmp_path / "spool"
        )

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


def tell_everything(tracking: MlflowWriter, state: str = "complete") -> None:
    tracking.study({"space.toml": "network = 'unet'"}, DATASETS)
    tracking.trial_started(
        3, {"network": "unet", "learning_rate": 1e-3, "pretrained": False}, {"network": "unet"}
    )
    tracking.epoch(3, "0", "fit0", rows(0))
    tracking.epoch(3, "0", "fit0", rows(1))
    tracking.fold_finished(3, "0", "fit0", rows(0, 1, 2), {"dice": 0.8})
    tracking.fold_finished(3, "1", "fit1", rows(0, 1), {"dice": 0.7})
    tracking.trial_finished(3, {"dice": 0.75, "threshold": 0.5}, state)  # type: ignore[arg-type]
    tracking.study_tags({"ended_by": "epochs"})
    tracking.summary({"best_dice": 0.75})


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def steps(uri: str, run: Run, metric: str = "val_dice") -> list[int]:
    """In their order; MLflow's is that of telling, where two are not told in the same millisecond."""
    return sorted(point.step for point in connect(uri).get_metric_history(run.info.run_id, metric))


def test_a_study_is_one_run_with_its_files_and_datasets(open_tracking, find_runs, mlflow_uri, request):
    with open_tracking() as tracking:
        tell_everything(tracking)
    run = find_runs()[request.node.name]
    assert (run.info.status, run.data.tags["role"], run.data.metrics) == (
        "FINISHED",
        "study",
        {"best_dice": 0.75},
    )
    assert run.data.tags["ended_by"] == "epochs"
    assert [file.path for file in connect(mlflow_uri).list_artifacts(run.info.run_id)] == ["space.toml"]
    found = {(use.dataset.name, use.dataset.digest, use.tags[0].value) for use in run.inputs.dataset_inputs}
    assert found == {("Kvasir-SEG", "a" * 36, "source"), ("CVC-ClinicDB", "b" * 36, "unseen")}


def test_a_trial_carries_flat_parameters_scores_and_its_source_data(open_tracking, find_runs):
    with open_tracking() as tracking:
        tell_everything(tracking)
    run = find_runs()["trial-003 unet"]
    assert run.data.params == {"network": "unet", "learning_rate": "0.001", "pretrained": "false"}
    assert run.data.metrics == {"dice": 0.75, "threshold": 0.5}
    assert run.data.tags["state"] == "complete" and run.info.status == "FINISHED"
    assert [use.dataset.name for use in run.inputs.dataset_inputs] == ["Kvasir-SEG"]


def test_folds_are_children_of_their_trial_and_carry_the_curves(open_tracking, find_runs, mlflow_uri):
    with open_tracking() as tracking:
        tell_everything(tracking)
    found = find_runs()
    for name, epochs in {"trial-003/fold-0": [1, 2, 3], "trial-003/fold-1": [1, 2]}.items():
        assert found[name].data.tags["mlflow.parentRunId"] == found["trial-003 unet"].info.run_id
        assert steps(mlflow_uri, found[name]) == epochs
        assert found[name].info.status == "FINISHED"


def test_telling_everything_again_after_a_restart_doubles_nothing(open_tracking, find_runs, mlflow_uri):
    for _ in range(2):
        with open_tracking() as tracking:
            tell_everything(tracking)
    found = find_runs()
    assert len(found) == 4
    assert steps(mlflow_uri, found["trial-003/fold-0"]) == [1, 2, 3]
    assert steps(mlflow_uri, found["trial-003 unet"], "dice") == [0]
    assert len(found["trial-003 unet"].inputs.dataset_inputs) == 1


def test_a_fold_goes_on_after_a_restart_where_its_curve_ended(open_tracking, find_runs, mlflow_uri):
    with open_tracking() as tracking:
        tracking.trial_started(0, {"network": "unet"})
        tracking.epoch(0, "0", "fit0", rows(0, 1))
    assert find_runs()["trial-000/fold-0"].info.status == "KILLED"
    with open_tracking() as tracking:
        tracking.trial_started(0, {"network": "unet"})
        tracking.epoch(0, "0", "fit0", rows(1, 2))
        tracking.fold_finished(0, "0", "fit0", rows(0, 1, 2, 3), {})
    run = find_runs()["trial-000/fold-0"]
    assert (run.info.status, steps(mlflow_uri, run)) == ("FINISHED", [1, 2, 3, 4])


def test_an_epoch_that_a_kill_kept_from_being_told_is_told_when_its_fold_is_finished(
    open_tracking, find_runs, mlflow_uri
):
    with open_tracking() as tracking:
        tracking.epoch(0, "0", "fit0", rows(0))
    with open_tracking() as tracking:
        tracking.epoch(0, "0", "fit0", rows(2))
        tracking.fold_finished(0, "0", "fit0", rows(0, 1, 2), {})
    assert steps(mlflow_uri, find_runs()["trial-000/fold-0"]) == [1, 2, 3]


def test_the_best_epoch_is_the_step_of_its_curve(open_tracking, find_runs, mlflow_uri):
    with open_tracking() as tracking:
        tracking.trial_started(0, {"network": "unet"})
        tracking.fold_finished(0, "0", "fit0", rows(0, 1, 2), {"best_epoch": 2})
    run = find_runs()["trial-000/fold-0"]
    assert run.data.metrics["best_epoch"] == max(steps(mlflow_uri, run)) == 3


def test_a_study_that_an_earlier_version_began_at_epoch_0_goes_on_so_and_says_so(
    open_tracking, find_runs, mlflow_uri, request, tmp_path, caplog
):
    client = connect(mlflow_uri)
    experiment = client.create_experiment(request.node.name, str(tmp_path / "artifacts"))
    tags = {"role": "fold", "trial": "0", "fit_id": "fit0", "mlflow.runName": "trial-000/fold-0"}
    run = client.create_run(experiment, tags=tags)
    client.log_metric(run.info.run_id, "val_dice", 0.0, step=0)
    with open_tracking() as tracking:
        tracking.fold_finished(0, "0", "fit0", rows(0, 1, 2), {"best_epoch": 2})
        tracking.fold_finished(0, "1", "fit1", rows(0, 1), {})
    assert steps(mlflow_uri, find_runs()["trial-000/fold-0"]) == [0, 1, 2]
    assert steps(mlflow_uri, find_runs()["trial-000/fold-1"]) == [0, 1]
    assert find_runs()["trial-000/fold-0"].data.metrics["best_epoch"] == 2
    assert "were begun with epochs from 0, and go on so" in caplog.text


def test_a_failed_trial_says_why_and_takes_its_open_folds_with_it(open_tracking, find_runs):
    with open_tracking() as tracking:
        tracking.trial_started(1, {"network": "unet"})
        tracking.epoch(1, "0", "fit0", rows(0))
        tracking.trial_finished(1, {}, "failed", "loss was nan in epoch 1")
    found = find_runs()
    assert found["trial-001 unet"].data.tags["error"] == "loss was nan in epoch 1"
    assert {found[name].info.status for name in ("trial-001 unet", "trial-001/fold-0")} == {"FAILED"}


def test_two_trials_may_share_a_fit(open_tracking, find_runs):
    with open_tracking() as tracking:
        for number in (0, 1):
            tracking.trial_started(number, {"network": "unet"})
            tracking.fold_finished(number, "0", "same", rows(0, 1), {"dice": 0.8})
    assert {"trial-000/fold-0", "trial-001/fold-0"} <= find_runs().keys()


def test_overlays_and_late_scores_join_a_trial_that_has_ended(open_tracking, find_runs, mlflow_uri, tmp_path):
    (tmp_path / "b.png").write_bytes(b"from a file")
    with open_tracking() as tracking:
        tell_everything(tracking)
        tracking.overlays(3, {"Kvasir-SEG/a": b"content", "b": tmp_path / "b.png"})
        tracking.trial_scores(3, {"unseen/CVC-ClinicDB/dice": 0.6}, {"champion": "true"})
    run = find_runs()["trial-003 unet"]
    pictures = connect(mlflow_uri).list_artifacts(run.info.run_id, "overlays")
    assert [picture.path for picture in pictures] == ["overlays/Kvasir-SEG_a.png", "overlays/b.png"]
    assert run.data.metrics["unseen/CVC-ClinicDB/dice"] == 0.6 and run.info.status == "FINISHED"


def test_a_study_that_goes_on_has_one_champion(open_tracking, find_runs):
    with open_tracking() as tracking:
        tell_everything(tracking)
        tracking.trial_scores(3, {"test_dice": 0.6}, {"champion": "true"})
        tracking.summary({})
    for champion in (4, 5):
        with open_tracking() as tracking:
            for number in (4, 5):
                tracking.trial_started(number, {"network": "unet"})
                tracking.trial_finished(number, {"dice": 0.9})
            tracking.trial_scores(champion, {"test_dice": 0.7}, {"champion": "true"})
    named = {name: run.data.tags.get("champion") for name, run in find_runs().items()}
    assert named["trial-003 unet"] == named["trial-004 unet"] == "false"
    assert named["trial-005 unet"] == "true"


def test_no_run_of_a_study_that_is_over_is_left_running(open_tracking, find_runs):
    with open_tracking() as tracking:
        tell_everything(tracking)
        tracking.epoch(3, "again-0", "late", rows(0))
        tracking.trial_started(4, {"network": "unet"})
        tracking.summary({"dice": 0.5})
    status = {name: run.info.status for name, run in find_runs().items()}
    assert status["trial-003/again-0"] == status["trial-004 unet"] == "KILLED"
    assert set(status.values()) == {"FINISHED", "KILLED"}


def test_a_long_curve_fits_through_the_limits_of_mlflow(open_tracking, find_runs, mlflow_uri):
    with open_tracking() as tracking:
        tracking.fold_finished(0, "refit", "fit0", rows(*range(1100)), {})
    assert len(steps(mlflow_uri, find_runs()["trial-000/refit"])) == 1100


def test_calls_wait_on_disk_while_the_server_is_away(open_tracking, find_runs, mlflow_uri, tmp_path, caplog):
    with caplog.at_level(logging.WARNING), open_tracking(NOWHERE) as tracking:
        tell_everything(tracking)
        tracking.overlays(3, {"a": b"content"})
    assert tracking.num_waiting == 10
    assert [record.message.split(";")[0] for record in caplog.records] == [
        f"MLflow at {NOWHERE} is away",
        f"10 calls to MLflow at {NOWHERE} are not written yet",
    ]
    with open_tracking() as tracking:
        pass
    found = find_runs()
    assert tracking.num_waiting == 0 and steps(mlflow_uri, found["trial-003/fold-0"]) == [1, 2, 3]
    assert connect(mlflow_uri).list_artifacts(found["trial-003 unet"].info.run_id, "overlays")


def test_how_much_waits_for_a_server_that_stays_away_is_said_whenever_it_has_doubled(
    tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(tracking_module, "MANY_BYTES", 1000)
    told = lambda: [line for line in caplog.messages if "still away" in line]  # noqa: E731
    with MlflowWriter(NOWHERE, "away", None, {}, spool=tmp_path, retry_s=0.02) as tracking:
        for num_calls, num_told in ((1, 1), (2, 2), (4, 3)):
            while tracking.num_waiting < num_calls:
                tracking.study_tags({"text": "x" * 1000})
            wait_until(lambda num_told=num_told: len(told()) == num_told)
    assert [re.search(r"(\d) calls, 0 MB, wait in", line)[1] for line in told()] == ["1", "2", "4"]


def test_calls_wait_whatever_keeps_them_from_mlflow(
    mlflow_uri, tmp_path, request, find_runs, monkeypatch, caplog
):
    """A driver for the artifacts may be missing: who installs it finds every call written."""
    apply = tracking_module._apply
    missing = [True]

    def refuse(*arguments: object) -> None:
        if missing:
            raise ModuleNotFoundError("No module named 'boto3'")
        apply(*arguments)

    monkeypatch.setattr(tracking_module, "_apply", refuse)
    with MlflowWriter(
        mlflow_uri, request.node.name, None, {}, spool=tmp_path / "spool", retry_s=0.05
    ) as tracking:
        tracking.trial_started(0, {"network": "unet"})
        wait_until(lambda: tracking.is_away)
        missing.clear()
        wait_until(lambda: tracking.num_waiting == 0)
    assert "trial-000 unet" in find_runs()
    assert "ModuleNotFoundError: No module named 'boto3'" in caplog.text


@pytest.mark.parametrize("status", [200, 400, 413])
def test_what_a_proxy_answers_in_place_of_mlflow_refuses_nothing_for_good(
    status, mlflow_uri, tmp_path, request, find_runs, monkeypatch
):
    answer, apply, is_down = requests.Response(), tracking_module._apply, [True]
    answer.status_code, answer._content = status, b"<html>not MLflow</html>"

    def through_proxy(*arguments: object) -> None:
        if is_down:
            verify_rest_response(answer, "/api/2.0/mlflow/runs/log-batch")
        apply(*arguments)

    monkeypatch.setattr(tracking_module, "_apply", through_proxy)
    with MlflowWriter(mlflow_uri, request.node.name, None, {}, spool=tmp_path, retry_s=0.05) as tracking:
        tracking.trial_started(0, {"network": "unet"})
        wait_until(lambda: tracking.is_away)
        is_down.clear()
        wait_until(lambda: tracking.num_waiting == 0)
    assert "trial-000 unet" in find_runs() and not (tmp_path / "refused.jsonl").exists()


def test_runs_are_known_again_whatever_else_their_study_is_tagged_with(mlflow_uri, request, tmp_path):
    for version in ("older", "newer"):
        tags = {"study_id": "same", version: "tag"}
        with MlflowWriter(mlflow_uri, request.node.name, None, tags, spool=tmp_path / version) as tracking:
            tracking.trial_started(0, {"network": "unet"})
    client = connect(mlflow_uri)
    experiment = client.get_experiment_by_name(request.node.name)
    assert len(client.search_runs([experiment.experiment_id], "tags.role = 'trial'")) == 1


def test_a_store_that_cannot_be_written_to_raises_and_prints_no_traceback(mlflow_uri, request, capfd):
    experiment = connect(mlflow_uri).create_experiment(request.node.name)
    store = mlflow_uri.replace("sqlite:///", "sqlite:///file:") + "?mode=ro&uri=true"
    with pytest.raises(MlflowException, match="readonly database"):
        connect(store).create_run(experiment)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_server_that_comes_back_gets_what_it_missed(mlflow_uri, tmp_path, request, find_runs):
    store = tmp_path / "store"
    store.write_text("a file, where the folder of the database should be")
    uri = f"sqlite:///{store / 'mlflow.db'}"
    with MlflowWriter(uri, request.node.name, None, {}, spool=tmp_path / "spool", retry_s=0.05) as tracking:
        tracking.trial_started(0, {"network": "unet"})
        wait_until(lambda: tracking.is_away)
        store.unlink()
        store.symlink_to(Path(mlflow_uri.removeprefix("sqlite:///")).parent)
        wait_until(lambda: tracking.num_waiting == 0)
    assert "trial-000 unet" in find_runs()


def test_a_line_that_a_kill_cut_short_is_dropped(open_tracking, find_runs, tmp_path):
    whole = {"method": "trial_started", "at": 1, "number": 0, "params": {}, "tags": {}, "datasets": []}
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "calls.jsonl").write_text(json.dumps(whole) + '\n{"method": "trial_st')
    with open_tracking():
        pass
    assert "trial-000" in find_runs()


def test_what_mlflow_refuses_is_put_aside_and_the_rest_goes_on(open_tracking, find_runs, tmp_path, caplog):
    with caplog.at_level(logging.WARNING), open_tracking() as tracking:
        tracking.trial_started(0, {"network": "unet"})
        tracking.trial_scores(0, {"what is 100%?": 1.0})
        tracking.trial_scores(0, {"dice": 0.5})
    assert find_runs()["trial-000 unet"].data.metrics == {"dice": 0.5}
    assert "what is 100%?" in (tmp_path / "spool" / "refused.jsonl").read_text()
    assert "refused" in caplog.text


def test_an_experiment_that_was_deleted_comes_back_with_its_study(
    open_tracking, find_runs, mlflow_uri, request
):
    with open_tracking() as tracking:
        tell_everything(tracking)
    client = connect(mlflow_uri)
    client.delete_experiment(client.get_experiment_by_name(request.node.name).experiment_id)
    with open_tracking() as tracking:
        tell_everything(tracking)
    assert client.get_experiment_by_name(request.node.name).lifecycle_stage == "active"


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "mlruns", "/tmp/mlruns"])
def test_a_folder_is_no_tracking_store(uri, tmp_path):
    with pytest.raises(BadMachine, match=r"sqlite:////path/mlflow\.db"):
        MlflowWriter(uri, "study", None, {}, spool=tmp_path)


def test_a_study_that_takes_an_old_ones_name_leaves_the_old_runs_alone(mlflow_uri, request, tmp_path):
    for study_id in ("first", "second"):
        tags = {"study_id": study_id}
        with MlflowWriter(mlflow_uri, request.node.name, None, tags, spool=tmp_path / study_id) as tracking:
            tracking.study({}, [])
            tracking.trial_started(0, {"learning_rate": study_id})
            tracking.trial_finished(0, {"dice": 0.5})
    client = connect(mlflow_uri)
    experiment = client.get_experiment_by_name(request.node.name)
    runs = client.search_runs([experiment.experiment_id], "tags.role = 'trial'")
    assert {run.data.params["learning_rate"] for run in runs} == {"first", "second"}


def test_a_verdict_of_the_race_is_on_the_trials_tags_with_its_numbers(open_tracking, find_runs):
    with open_tracking() as tracking:
        tracking.trial_started(2, {"learning_rate": 1e-3})
        tracking.verdict(
            2, {"action": "pause", "reason": "waits", "against": None, "numbers": {"chance": 0.125}}
        )
        tracking.verdict(2, {"action": "stop", "reason": "worse", "against": 0, "numbers": {"chance": 0.01}})
        tracking.trial_finished(2, {}, "stopped", "worse")
    (run,) = find_runs().values()
    assert run.info.status == "KILLED"
    tags = {name: value for name, value in run.data.tags.items() if name.startswith("race")}
    assert tags == {
        "race": "stop",
        "race_reason": "worse",
        "race_against": "0",
        "race_numbers": '{"chance": 0.01}',
    }


def test_a_search_that_ends_on_a_full_disk_ends_without_a_word_to_mlflow(open_tracking, tmp_path, caplog):
    tracking = open_tracking(NOWHERE)
    calls = tmp_path / "spool" / "calls.jsonl"
    calls.unlink()
    calls.symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left.*calls\.jsonl"):
        tracking.trial_started(0, {})
    tracking.close(0.1)
    assert "MLflow is not told that the study ends here" in caplog.text
