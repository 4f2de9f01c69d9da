"""What a running study tells, where no other test of this room needs a whole study for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from formula import formula_study

from orchestrator.results.mlflow_client import connect
from orchestrator.results.report import Report
from orchestrator.search.width import WidthChoice
from orchestrator.training.lane import Shape


def test_the_width_that_was_chosen_is_said_with_its_numbers_and_is_a_tag_of_the_study(
    tmp_path: Path, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    study = formula_study(tmp_path, num_trials=1)
    study.home.begin(study.space, study.plan, study.seed)
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
