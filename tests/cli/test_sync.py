"""`orchestrator sync`: a study that no server has seen is written from its records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from formula import carry_out, formula_study
from in_mlflow import runs_of
from inline_lanes import InlineLanes
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.common.errors import BadMachine
from orchestrator.results.mlflow.client import default_uri
from orchestrator.study.champion import choose_champion

NOWHERE = "http://127.0.0.1:9"


@pytest.mark.slow
def test_a_study_is_written_once_and_a_server_that_is_away_is_exit_code_2(tmp_path: Path):
    study = formula_study(tmp_path, num_trials=1)
    choose_champion(study.store, InlineLanes(carry_out(study, [1e-3])))
    words = ["sync", "formula", "--home", str(tmp_path)]
    away = CliRunner().invoke(cli.app, [*words, "--tracking-uri", NOWHERE])
    assert isinstance(away.exception, BadMachine) and f"MLflow at {NOWHERE}" in str(away.exception)
    for _ in range(2):
        done = CliRunner().invoke(cli.app, words)
        assert done.exit_code == 0 and "formula: 1 trial in MLflow at sqlite://" in done.output
    said = json.loads(CliRunner().invoke(cli.app, [*words, "--json"]).output)
    assert (said["study"], said["trials"]) == ("formula", 1) and "sqlite://" in said["mlflow"]
    runs = runs_of(study.store, default_uri(tmp_path))
    assert len(runs) == 7 and {run.info.status for run in runs} == {"FINISHED"}
    assert (study.store.folder / "trials.csv").exists()
