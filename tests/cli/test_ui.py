"""`orchestrator ui`: what it refuses; its pages are tested in tests/results/mlflow/test_pages.py."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from formula import carry_out, formula_study
from in_mlflow import sync_mlflow
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.common.errors import UserError
from orchestrator.results.mlflow.client import connect, default_uri
from orchestrator.results.mlflow.runs.known_runs import LAYOUT
from orchestrator.results.mlflow.tags import WRITTEN_AS
from orchestrator.results.mlflow.ui.server import LOOPBACK, free_port, runs_page
from orchestrator.results.mlflow.up_to_date import bring_up_to_date, is_up_to_date
from orchestrator.search.store.study_store import StudyStore


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> StudyStore:
    """A study that MLflow does not have."""
    study = formula_study(tmp_path_factory.mktemp("home"), num_trials=1)
    carry_out(study, [1e-3])
    return study.store


def refused(*words: str) -> str:
    """What `ui` says as a mistake of the user's."""
    answer = CliRunner().invoke(cli.app, ["ui", "--no-browser", *words])
    assert isinstance(answer.exception, UserError), answer.output
    return str(answer.exception)


def test_a_home_without_mlflow_is_told_what_makes_it(store: StudyStore):
    assert refused("--home", str(store.home)).endswith("`orchestrator sync formula` makes it")


def test_a_home_without_studies_is_told_so(tmp_path: Path):
    assert "holds no study yet" in refused("--home", str(tmp_path))


def test_a_study_that_mlflow_lacks_is_named_with_the_command_that_writes_it(
    store: StudyStore, mlflow_uri: str
):
    said = refused(
        "formula", "--home", str(store.home), "--tracking-uri", mlflow_uri.replace("mlflow.db", "m2.db")
    )
    assert "formula: is not in MLflow at" in said and "`orchestrator sync formula`" in said


def test_a_port_that_is_taken_is_one_sentence(store: StudyStore):
    sync_mlflow(store, default_uri(store.home))
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        other.listen()
        port = other.getsockname()[1]
        said = refused("--home", str(store.home), "--port", str(port))
        assert said.startswith(f"--port: {port} is taken") and "\n" not in said
        assert free_port(None) != port
    (store.home / "mlflow.db").unlink()


def test_the_page_is_the_study_s_table_as_for_training():
    tags = {"mlflow.sharedViewState.trials": "{}"}
    assert runs_page("http://127.0.0.1:5000/", "3", tags) == (
        "http://127.0.0.1:5000/#/experiments/3/runs?workflowType=machine_learning&viewStateShareKey=trials"
    )


def test_runs_of_an_earlier_version_are_brought_up_to_date_once(tmp_path: Path):
    study = formula_study(tmp_path, num_trials=1)
    carry_out(study, [1e-3])
    uri = default_uri(tmp_path)
    sync_mlflow(study.store, uri)
    client = connect(uri)
    experiment = client.get_experiment_by_name("formula").experiment_id
    for run in client.search_runs([experiment], "tags.role = 'fold'"):
        client.set_tag(run.info.run_id, "layout", "1")  # as a version before wrote it
        client.delete_tag(run.info.run_id, "split_digest")
        client.set_tag(run.info.run_id, "twin_pairs", "2")
        client.set_tag(run.info.run_id, "fold", "again-0")
    client.delete_experiment_tag(experiment, WRITTEN_AS)
    said: list[str] = []
    bring_up_to_date(tmp_path, said.append)
    assert said == ["formula: what an earlier version wrote into MLflow is brought up to date"]
    folds = [run.data.tags for run in client.search_runs([experiment], "tags.role = 'fold'")]
    assert {tags["layout"] for tags in folds} == {LAYOUT}
    assert {tags["fold"] for tags in folds} == {"0", "1", "2", "3", "4"}
    assert all("near_duplicate_pairs" in tags and "twin_pairs" not in tags for tags in folds)
    bring_up_to_date(tmp_path, said.append)
    assert len(said) == 1


def test_a_study_that_a_search_writes_is_left_to_it(tmp_path: Path):
    study = formula_study(tmp_path, num_trials=1)
    carry_out(study, [1e-3])
    sync_mlflow(study.store, default_uri(tmp_path))
    client = connect(default_uri(tmp_path))
    client.delete_experiment_tag(client.get_experiment_by_name("formula").experiment_id, WRITTEN_AS)
    said: list[str] = []
    with study.store.lock():
        bring_up_to_date(tmp_path, said.append)
    assert said == []


def test_what_a_later_version_wrote_is_not_written_by_an_earlier_one():
    later = {WRITTEN_AS: f"{int(LAYOUT) + 1} abc"}
    assert is_up_to_date(later, "abc") and not is_up_to_date(later, "other") and not is_up_to_date({}, "abc")
