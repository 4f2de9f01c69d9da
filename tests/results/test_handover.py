"""`orchestrator best` on a study of several trials, whose fits are made by formula."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from formula import carry_out, formula_study

from orchestrator.cli import main
from orchestrator.results.handover import trial_card
from orchestrator.results.mlflow_client import connect
from orchestrator.results.report import Report
from orchestrator.results.selection import select_trial
from orchestrator.search.home import champion_fit, ranked
from orchestrator.study import Study
from orchestrator.training.lane import Shape

RATES = (1e-4, 1e-3, 1.02e-3, 1e-2)  # the best is 1e-3, of the next the formula knows no difference


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = formula_study(tmp_path_factory.mktemp("home"), num_trials=len(RATES))
    carry_out(study, RATES)
    return study


@pytest.fixture
def run(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(study.home.home))

    def run(line: str) -> str:
        monkeypatch.setattr(sys, "argv", ["orchestrator", *line.split()])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert not ended.value.code, said.err
        return said.out

    return run


def test_best_says_what_cannot_be_told_from_the_winner_and_what_was_gained(run):
    said = json.loads(run("best formula --json"))["selection"]
    assert (said["winner"], said["chosen"], said["num_compared"]) == (1, 1, 3)
    assert [one["other"] for one in said["not_told_from_winner"]] == [2]
    gain = said["against_default"]
    assert gain["difference"] == pytest.approx(1 - 2 * 0.368 / 1.368, abs=0.01) and gain["p_value"] < 0.05
    text = " ".join(run("best formula").split())
    assert "these cannot be told from trial 1 by dice: 2." in text
    assert "Trial 1 beats the paper's setting, trial 0, by +46" in text


def test_the_rule_of_one_standard_error_is_explained(run):
    said = json.loads(run("best formula --rule one-se --json"))
    assert said["selection"]["rule"] == "one-se" and "standard error" in said["selection"]["reason"]
    assert said["trial"] == said["selection"]["chosen"]


def test_the_card_says_how_the_trial_was_chosen(study: Study):
    standing = ranked(study.home.trials())
    trial, score = standing[0]
    selection = select_trial(study.home, standing)
    card = trial_card(study.home, trial, score, champion_fit(trial), selection)
    assert "## How it was chosen" in card and all(f"- {line}" in card for line in selection.sentences())


def test_the_run_of_the_champion_tells_what_was_gained(
    study: Study, mlflow_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with Report(study.home, mlflow_uri, say=lambda line: None, advance=lambda *_: None) as report:
        report.started(study, Shape(1, 1, 1, 0, "cpu"))
        trial = study.home.trials()[1]
        report.trial_started(1, trial.params)
        report.finished(trial)
    client = connect(mlflow_uri)
    experiment = client.get_experiment_by_name(study.home.name)
    (champion,) = client.search_runs([experiment.experiment_id], "tags.champion = 'true'")
    assert champion.data.tags["beats_default"] == "yes"
    assert champion.data.tags["not_told_from_winner"] == "2"
    assert champion.data.metrics["gain_over_default"] > 0.4
