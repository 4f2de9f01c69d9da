"""MLflow is brought up to the records of a study, whatever keeps it from that for a while."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import torch
from formula import SPACE, FormulaJobRunner, carry_out, finish, formula_study, row
from in_mlflow import runs_of, sink_to, sync_mlflow
from inline_lanes import InlineLanes
from mlflow import MlflowClient
from mlflow.utils.rest_utils import verify_rest_response
from optuna.trial import TrialState

from orchestrator.common.errors import BadMachine
from orchestrator.results.mlflow.client import connect
from orchestrator.results.mlflow.sink import MlflowSink
from orchestrator.results.mlflow.summary import reevaluation_metrics
from orchestrator.search.goals.objective import Objective
from orchestrator.search.records.cut_fits import CutFit, append_cut_fit
from orchestrator.search.records.status import Status, write_status
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.search.space.space_file import parse_space
from orchestrator.search.store.study_store import StudyStore
from orchestrator.selection.reevaluation import Reevaluated
from orchestrator.study.champion import choose_champion
from orchestrator.study.run import begin
from orchestrator.study.runnable_study import RunnableStudy
from orchestrator.training.ray.lanes import Shape

NOWHERE, PATH = "http://127.0.0.1:9", "/api/2.0/mlflow/runs/log-batch"


@pytest.fixture
def study(tmp_path: Path) -> RunnableStudy:
    """Two trials with all their folds."""
    study = formula_study(tmp_path, num_trials=2)
    carry_out(study, [1e-4, 1e-3])
    return study


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def names(store: StudyStore, uri: str) -> Counter[tuple[str, str]]:
    return Counter((run.info.run_name, run.info.status) for run in runs_of(store, uri))


def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The calls of MLflow's client from now on, by name."""
    calls = Counter[str]()
    for name in (
        "create_run",
        "log_batch",
        "log_inputs",
        "log_text",
        "set_terminated",
        "update_run",
        "search_runs",
    ):
        plain = getattr(MlflowClient, name)

        def counting(*args: Any, plain: Any = plain, name: str = name, **options: Any) -> Any:
            calls[name] += 1
            return plain(*args, **options)

        monkeypatch.setattr(MlflowClient, name, counting)
    return calls


def test_a_finished_study_is_whole_in_mlflow_after_one_sync(study: RunnableStudy, mlflow_uri: str):
    champion = choose_champion(study.store, InlineLanes(carry_out(study, [])))
    sync_mlflow(study.store, mlflow_uri, champion=champion)
    trials = runs_of(study.store, mlflow_uri, "trial")
    assert {run.info.run_name: run.info.status for run in trials} == {
        "trial-000 unet": "FINISHED",
        "trial-001 unet": "FINISHED",
    }
    assert {run.data.params["learning_rate"] for run in trials} == {"0.0001", "0.001"}
    assert [run.data.tags["trial"] for run in trials if run.data.tags.get("champion") == "true"] == ["1"]
    assert len(runs_of(study.store, mlflow_uri, "fold")) == 10
    (whole,) = runs_of(study.store, mlflow_uri, "study")
    files = {file.path for file in connect(mlflow_uri).list_artifacts(whole.info.run_id)}
    assert files == {"search_space.toml", "splits.json", "report"}


def test_a_fit_costs_six_calls_and_a_sync_with_nothing_to_do_asks_for_the_runs_alone(
    study: RunnableStudy, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch
):
    calls = counted(monkeypatch)
    sync_mlflow(study.store, mlflow_uri)
    per_fit = sum(calls[name] for name in ("create_run", "log_inputs", "log_batch", "set_terminated")) / 10
    assert per_fit < 6, calls  # four of the fold, the rest of its trial and of the study
    calls.clear()
    sync_mlflow(study.store, mlflow_uri)
    assert calls == {"search_runs": 1}


def test_what_is_written_is_not_looked_at_again(study: RunnableStudy, mlflow_uri: str, monkeypatch):
    sink = sink_to(study.store, mlflow_uri)
    assert sink.attempt(is_last=False)
    read = []
    monkeypatch.setattr(type(study.store.ledger), "find", lambda self, fit_id: read.append(fit_id))
    calls = counted(monkeypatch)
    assert sink.attempt(is_last=False)
    assert read == [] and not calls


def test_a_study_that_ran_while_mlflow_was_away_is_whole_with_the_next_sync(
    study: RunnableStudy, mlflow_uri: str, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING), sink_to(study.store, NOWHERE) as sink:
        sink.finished(None)
        wait_until(lambda: sink.is_away)
    messages = [record.message for record in caplog.records]
    assert [message.split(";")[0] for message in messages] == [
        f"MLflow at {NOWHERE} is away",
        f"MLflow at {NOWHERE} lacks 2 of 2 trials of study formula",
    ]
    assert "`orchestrator sync formula`" in messages[-1]
    sync_mlflow(study.store, mlflow_uri)
    assert len(runs_of(study.store, mlflow_uri)) == 13


def test_a_server_that_comes_back_gets_what_it_missed_and_both_are_said_once(
    study: RunnableStudy, mlflow_uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    store = tmp_path / "store"
    store.write_text("a file, where the folder of the database should be")
    with caplog.at_level(logging.WARNING), sink_to(study.store, f"sqlite:///{store / 'mlflow.db'}") as sink:
        wait_until(lambda: sink.is_away)
        time.sleep(0.3)
        store.unlink()
        store.symlink_to(Path(mlflow_uri.removeprefix("sqlite:///")).parent)
        wait_until(lambda: not sink.is_away)
    assert caplog.text.count("is away") == caplog.text.count("works again, and has what it lacked") == 1
    assert len(runs_of(study.store, mlflow_uri)) == 13


def failing(monkeypatch: pytest.MonkeyPatch, method: str, refuse: Callable[[], None]) -> list[bool]:
    """A method of MLflow's client that fails as long as the list is not empty."""
    is_down, plain = [True], getattr(MlflowClient, method)

    def call(*args: Any, **options: Any) -> Any:
        if is_down:
            refuse()
        return plain(*args, **options)

    monkeypatch.setattr(MlflowClient, method, call)
    return is_down


@pytest.mark.parametrize(
    "status", [200, 413, *(pytest.param(one, marks=pytest.mark.slow) for one in (400, 500))]
)
def test_what_a_proxy_answers_in_place_of_mlflow_refuses_nothing_for_good(
    study: RunnableStudy, status: int, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch
):
    answer = requests.Response()
    answer.status_code, answer._content = status, b"<html>not MLflow</html>"
    is_down = failing(monkeypatch, "log_batch", lambda: verify_rest_response(answer, PATH))
    with sink_to(study.store, mlflow_uri) as sink:
        wait_until(lambda: sink.is_away)
        is_down.clear()
        wait_until(lambda: not sink.is_away)
    assert len(runs_of(study.store, mlflow_uri)) == 13


def test_a_driver_for_artifacts_that_is_missing_is_said_with_its_traceback_and_loses_nothing(
    study: RunnableStudy, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def refuse() -> None:
        raise ModuleNotFoundError("No module named 'boto3'")

    is_missing = failing(monkeypatch, "log_text", refuse)
    with sink_to(study.store, mlflow_uri) as sink:
        wait_until(lambda: sink.is_away)
        is_missing.clear()
        wait_until(lambda: not sink.is_away)
    assert "Traceback" in caplog.text and "ModuleNotFoundError: No module named 'boto3'" in caplog.text
    assert len(runs_of(study.store, mlflow_uri)) == 13


def test_an_answer_that_is_lost_doubles_nothing(study: RunnableStudy, mlflow_uri: str, monkeypatch):
    plain, lost = MlflowClient.create_run, []

    def cut(*args: Any, **options: Any) -> Any:
        run = plain(*args, **options)
        if len(lost) < 3:
            lost.append(run)
            raise ConnectionError("Connection aborted")
        return run

    monkeypatch.setattr(MlflowClient, "create_run", cut)
    with sink_to(study.store, mlflow_uri) as sink:
        wait_until(lambda: len(lost) == 3 and not sink.is_away)
    assert max(names(study.store, mlflow_uri).values()) == 1 and len(runs_of(study.store, mlflow_uri)) == 13


def test_curves_of_a_fit_in_flight_come_as_they_grow(tmp_path: Path, mlflow_uri: str):
    study = formula_study(tmp_path, num_trials=1)
    begin(study)
    finish(study, 1e-3, [0.5])
    sink = sink_to(study.store, mlflow_uri)
    sink.started(study, Shape(1, 1, 1, 0, "cpu"))
    for rows, expected in (([row(0, 0.1), row(1, 0.2)], [1, 2]), ([row(2, 0.3)], [1, 2, 3])):
        sink.epochs(0, 1, "in flight", rows)
        assert sink.attempt(is_last=False)
        (run,) = [one for one in runs_of(study.store, mlflow_uri, "fold") if one.info.status == "RUNNING"]
        points = connect(mlflow_uri).get_metric_history(run.info.run_id, "val_dice")
        assert sorted(point.step for point in points) == expected
    assert sink.attempt(is_last=True)
    states = {run.info.status for run in runs_of(study.store, mlflow_uri, "fold")}
    assert states == {"FINISHED", "KILLED"}


def test_a_trial_that_is_not_over_has_what_its_finished_folds_have_shown(tmp_path: Path, mlflow_uri: str):
    study = formula_study(tmp_path, num_trials=1)
    begin(study)
    finish(study, 1e-3, [0.5])
    sink = sink_to(study.store, mlflow_uri)
    second = fold_specs(study.store.trials()[0].configuration, study.plan)[1]
    for folds in (1, 2):
        if folds == 2:
            FormulaJobRunner(study.store.ledger)(second, torch.device("cpu"), 0, lambda row: True)
        assert sink.attempt(is_last=False)
        (run,) = runs_of(study.store, mlflow_uri, "trial")
        trial = study.store.trials()[0]
        assert run.data.metrics["folds_seen"] == len(trial.records) == folds
        assert run.data.metrics["dice_on_seen_folds"] == pytest.approx(trial.partial.dice_on_seen_folds)
        assert "dice" not in run.data.metrics and run.info.status != "FINISHED"


def test_a_fit_that_was_cut_keeps_its_curve_while_mlflow_is_away(tmp_path: Path, mlflow_uri: str):
    study = formula_study(tmp_path, num_trials=1)
    begin(study)
    finish(study, 1e-3, [0.5])
    rows = [row(0, 0.1), row(1, 0.2)]
    append_cut_fit(study.store.ledger.cut_fits, CutFit(0, 1, "abc", rows))
    study.store.optuna_study().tell(0, state=TrialState.PRUNED)
    for _ in range(2):
        sync_mlflow(study.store, mlflow_uri, is_over=False)
    (cut,) = [run for run in runs_of(study.store, mlflow_uri, "fold") if run.data.tags["fit_id"] == "abc"]
    points = connect(mlflow_uri).get_metric_history(cut.info.run_id, "val_dice")
    assert (cut.info.status, sorted(point.step for point in points)) == ("FINISHED", [1, 2])


def test_calls_that_an_earlier_version_kept_are_deleted_with_a_line_in_the_log(
    study: RunnableStudy, mlflow_uri: str, caplog: pytest.LogCaptureFixture
):
    spool = study.store.folder / "mlflow-spool"
    (spool / "files").mkdir(parents=True)
    (spool / "calls.jsonl").write_text(json.dumps({"method": "trial_started"}) + "\n")
    with caplog.at_level(logging.WARNING), sink_to(study.store, mlflow_uri) as sink:
        sink.finished(None)
    assert "1 calls that an earlier version kept for MLflow are deleted" in caplog.text
    assert not spool.exists() and len(runs_of(study.store, mlflow_uri)) == 13


def test_the_runs_of_an_earlier_version_are_gone_on_with(study: RunnableStudy, mlflow_uri: str):
    client = connect(mlflow_uri)
    known = client.get_experiment_by_name(study.store.name)  # of other tests
    experiment = known.experiment_id if known is not None else client.create_experiment(study.store.name)
    trial = study.store.trials()[1]
    tags = {"study_id": study.store.study_id, "first_epoch": "1", "trial": "1"}
    old = client.create_run(experiment, run_name="trial-001 unet", tags={**tags, "role": "trial"})
    fold = {**tags, "role": "fold", "fit_id": trial.records[0].fit_id, "fold": "0"}
    old_fold = client.create_run(experiment, run_name="trial-001/fold-0", tags=fold)
    client.log_metric(old_fold.info.run_id, "val_dice", 0.5, step=1)
    sync_mlflow(study.store, mlflow_uri)
    runs = {run.info.run_id: run for run in runs_of(study.store, mlflow_uri)}
    assert len(runs) == 13
    assert runs[old.info.run_id].info.status == runs[old_fold.info.run_id].info.status == "FINISHED"
    points = client.get_metric_history(old_fold.info.run_id, "val_dice")
    assert sorted(point.step for point in points) == [1, 2, 3]


def test_a_fold_is_scored_by_masks_that_its_trial_can_have(tmp_path: Path, mlflow_uri: str):
    space = parse_space(SPACE.text.replace("[fixed]", "[fixed]\nthreshold = 0.5"))
    study = replace(formula_study(tmp_path, num_trials=1), space=space)
    begin(study)
    bins = np.zeros((2, 256))
    bins[0, 200] = bins[1, 250] = 1000  # as many false alarms as polyp, gone at thresholds above 200/256
    finish(study, 1e-4, [bins])
    sync_mlflow(study.store, mlflow_uri, is_over=False)
    (run,) = runs_of(study.store, mlflow_uri, "fold")
    assert run.data.params["threshold"] == "0.5" and run.data.metrics["threshold_used"] == 0.5
    assert run.data.metrics["dice"] == pytest.approx(2 / 3)


def test_why_a_study_ended_and_its_width_are_tags_of_the_study(study: RunnableStudy, mlflow_uri: str):
    status = Status("formula", "ended", "none", "2 trials", 1.0, 2.0, 1, "here")
    chosen = {"workers_per_fit": 2, "workers_per_fit_why": "2 workers per fit: on 4 GPUs"}
    write_status(study.store.status_file, replace(status, end="2 trials", ended_by="trials", **chosen))
    sync_mlflow(study.store, mlflow_uri)
    (run,) = runs_of(study.store, mlflow_uri, "study")
    found = {name: run.data.tags[name] for name in ("ended_by", "ended_why", *chosen)}
    assert found == {"ended_by": "trials", "ended_why": "2 trials"} | {k: str(v) for k, v in chosen.items()}


def test_what_a_reevaluation_shows_is_named_by_the_objective():
    one = Reevaluated(trial=1, search=0.8, fresh=0.6, both=0.7)
    assert reevaluation_metrics(one, Objective()).keys() == {
        "rescored_dice",
        "rescored_dice_fresh",
        "search_optimism",
    }
    found = reevaluation_metrics(one, Objective("worst-fold"))
    assert found["rescored_worst_fold_dice"] == 0.7 and found["rescored_worst_fold_dice_fresh"] == 0.6
    assert "rescored_dice" not in found


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "mlruns", "/tmp/mlruns"])
def test_a_folder_is_no_tracking_store(uri: str, tmp_path: Path):
    with pytest.raises(BadMachine, match=r"sqlite:////path/mlflow\.db"):
        MlflowSink(StudyStore(tmp_path, "formula"), uri)
