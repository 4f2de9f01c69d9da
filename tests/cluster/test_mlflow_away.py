"""A real MLflow server that is away, hangs, answers nonsense, takes no password, or whose answers are lost."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chaos.gate import PASSWORD, USER, Gate, mlflow_behind_gate
from formula import SPACE, FormulaJobRunner, formula_study
from in_mlflow import sink_to

from orchestrator.results.mlflow.client import connect
from orchestrator.results.mlflow.sink import MlflowSink
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.search.store.study_store import StudyStore
from orchestrator.study.run import begin
from orchestrator.study.runnable_study import RunnableStudy

pytestmark = pytest.mark.slow
# Of the study: its run is made, its trial, a fold, the trial is complete, the summary is written.
MOMENTS = ("study", "trial", "fold", "complete", "end")


@pytest.fixture(scope="module")
def gate() -> Iterator[Gate]:
    with tempfile.TemporaryDirectory() as folder, mlflow_behind_gate(Path(folder)) as gate:
        yield gate


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    formula_study(home, num_trials=1)
    return home


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def sink_of(study: RunnableStudy, gate: Gate) -> MlflowSink:
    """It draws one picture, and the server says where artifacts go."""
    sink = sink_to(study.store, gate.uri, pictures=lambda *_: {"a.png": b"content"}, retry_s=0.2)
    sink.artifacts = None
    return sink


def search(study: RunnableStudy, before: str, shut: Callable[[], None]) -> None:
    """A study of one trial grows; MLflow is shut before one of the moments, when all before it is written."""
    if before == "trial":
        shut()
    optuna = study.store.optuna_study()
    optuna.enqueue_trial(SPACE.baseline)
    trial = optuna.ask()
    work = FormulaJobRunner(study.store.ledger)
    specs = fold_specs(study.space.configuration(study.space.sample(trial)), study.plan)
    for place, spec in enumerate(specs):
        if before == "fold" and place == 2:
            shut()
        work(spec, None, 0, lambda row: True)  # type: ignore[arg-type]
    if before == "complete":
        shut()
    optuna.tell(trial, 0.5)


def runs(gate: Gate, name: str) -> list[Any]:
    """Everything that MLflow holds of a study, apart from its own name."""
    client = connect(gate.uri)
    experiment = client.get_experiment_by_name(name)
    found = []
    for run in client.search_runs([experiment.experiment_id]):
        curve = client.get_metric_history(run.info.run_id, "val_dice")
        points = sorted((point.step, point.value) for point in curve)
        files = [file.path for file in client.list_artifacts(run.info.run_id)]
        tags = run.data.tags["mlflow.runName"].replace(name, "study")
        found.append((tags, run.info.status, sorted(run.data.metrics.items()), points, files))
    return sorted(found)


def study_in(home: Path, name: str) -> RunnableStudy:
    """A study without a trial."""
    study = replace(formula_study(home, num_trials=1), store=StudyStore(home, name))
    begin(study)
    return study


@pytest.fixture(scope="module")
def calm(gate: Gate, home: Path) -> list[Any]:
    study = study_in(home, "calm")
    search(study, "", lambda: None)
    with sink_of(study, gate) as sink:
        sink.finished(study.store.trials()[0])
    return runs(gate, "calm")


@pytest.fixture
def shut(
    gate: Gate, how: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[Callable[[], None], Callable[[], None]]:
    """How it is shut, and how it is opened again."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    if how == "down":
        return gate.go_down, gate.come_back
    if how != "password":
        return lambda: gate.turn(how), lambda: gate.turn("open")  # type: ignore[arg-type]
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    monkeypatch.setattr(gate, "wants_password", True)
    return (
        lambda: monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong"),
        lambda: monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD),
    )


@pytest.mark.parametrize("before", MOMENTS)
@pytest.mark.parametrize("how", ["down", "hanging", "500", "html", "cut", "password"])
def test_mlflow_gets_what_it_missed_and_gets_it_once(
    gate: Gate, calm: list[Any], shut: Any, how: str, before: str, home: Path
):
    close, reopen = shut
    study = study_in(home, f"{how}-{before}")
    if before == "study":
        close()
    with sink_of(study, gate) as sink:

        def close_when_written() -> None:
            records = sink.replay.records
            wait_until(
                lambda: sink._runs is not None and len(records.on_record) == study.store.ledger.num_fits
            )
            close()

        search(study, before, close_when_written)
        if before == "end":
            wait_until(lambda: 0 in sink.replay.written)
            close()
        else:
            wait_until(lambda: sink.is_away)
            reopen()
            wait_until(lambda: not sink.is_away)
        sink.finished(study.store.trials()[0])
    if before == "end":
        assert sink.is_away
        reopen()
        with sink_of(study, gate) as sink:
            sink.finished(study.store.trials()[0])
    assert runs(gate, study.store.name) == calm
