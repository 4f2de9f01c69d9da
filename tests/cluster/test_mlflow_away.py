"""A real MLflow server that is away, hangs, answers nonsense, takes no password, or whose answers are lost."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos.gate import PASSWORD, USER, Gate, mlflow_behind_gate

from orchestrator.results.mlflow.client import connect
from orchestrator.results.mlflow.writer import MlflowWriter

pytestmark = pytest.mark.slow
ROWS = [{"epoch": epoch, "train_loss": 1 / (epoch + 1), "val_dice": epoch / 10} for epoch in range(3)]
CALLS = ("study", "trial", "epoch", "fold", "end")


@pytest.fixture(scope="module")
def gate() -> Iterator[Gate]:
    with tempfile.TemporaryDirectory() as folder, mlflow_behind_gate(Path(folder)) as gate:
        yield gate


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def tell(tracking: MlflowWriter, before: str, shut: Callable[[], None]) -> None:
    """A small study; MLflow is shut before one of the calls, when all others before it are written."""

    def at(call: str) -> None:
        if call == before:
            wait_until(lambda: tracking.num_waiting == 0)
            shut()

    at("study")
    tracking.study({"space.toml": "network = 'unet'"}, [("near", "a" * 64, 30, "source")])
    at("trial")
    tracking.trial_started(3, {"network": "unet", "learning_rate": 1e-3}, {"network": "unet"})
    at("epoch")
    tracking.epoch(3, "0", "fit0", ROWS[:2])
    at("fold")
    tracking.fold_finished(3, "0", "fit0", ROWS, {"dice": 0.8})
    tracking.overlays(3, {"a": b"content"})
    at("end")
    tracking.trial_finished(3, {"dice": 0.75}, "complete")
    tracking.summary({"best_dice": 0.75})


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


@pytest.fixture(scope="module")
def calm(gate: Gate, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    with MlflowWriter(gate.uri, "calm", None, {}, spool=tmp_path_factory.mktemp("calm")) as tracking:
        tell(tracking, "", lambda: None)
        wait_until(lambda: tracking.num_waiting == 0)
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


@pytest.mark.parametrize("before", CALLS)
@pytest.mark.parametrize("how", ["down", "hanging", "500", "html", "cut", "password"])
def test_mlflow_gets_what_it_missed_and_gets_it_once(gate: Gate, calm, shut, how: str, before: str, tmp_path):
    close, reopen = shut
    name = f"{how}-{before}"
    with MlflowWriter(gate.uri, name, None, {}, spool=tmp_path, retry_s=0.2) as tracking:
        tell(tracking, before, close)
        wait_until(lambda: tracking.is_away)
        reopen()
        wait_until(lambda: tracking.num_waiting == 0)
    assert runs(gate, name) == calm and not (tmp_path / "refused.jsonl").exists()
