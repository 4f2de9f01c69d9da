"""What is said of finalists that were scored again: leaderboard, best, card and MLflow."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import luck
import pytest
from formula import Heard, carry_out, formula_study
from hands import Hands
from luck import RATES, LuckyWork

from orchestrator.cli import main
from orchestrator.results.export.handover import board, trial_card
from orchestrator.results.mlflow.client import connect
from orchestrator.results.mlflow.study_report import Report
from orchestrator.results.views.tables import ranked_rows
from orchestrator.search.budget.gate import BudgetGate
from orchestrator.search.budget.usage import ResourceUsage
from orchestrator.search.progress.monitor import ProgressMonitor
from orchestrator.search.store.study_store import champion_fit
from orchestrator.selection.ranking import select_trial
from orchestrator.selection.reevaluation import reevaluate, reevaluation_plan, reevaluation_specs
from orchestrator.study.champion import choose_champion
from orchestrator.study.spec import Study
from orchestrator.training.ray.lanes import Shape


def carried_out(home: Path, constraints: tuple[str, ...] = ()) -> Study:
    """Trial 1 was lucky in the search, trial 2 is the champion of both scorings."""
    study = formula_study(home, num_trials=4).with_options(rescore=3, constraints=constraints)
    hands = Hands(carry_out(study, RATES, LuckyWork))
    purse, heard = BudgetGate(study.budget, ResourceUsage(study.home.ledger)), Heard()
    watch = ProgressMonitor(study.home, purse, "none", heard.progress)
    assert reevaluate(study.home, 3, hands, purse, lambda: False, watch, heard)
    choose_champion(study.home, hands)
    return study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return carried_out(tmp_path_factory.mktemp("home"))


@pytest.fixture
def run(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(study.home.home))
    monkeypatch.setenv("COLUMNS", "200")

    def run(line: str) -> str:
        monkeypatch.setattr(sys, "argv", ["orchestrator", *line.split()])
        with pytest.raises(SystemExit) as ended:
            main()
        heard = capsys.readouterr()
        assert not ended.value.code, heard.err
        return heard.out

    return run


def test_the_leaderboard_ranks_finalists_by_both_scorings_and_others_after_them(run):
    rows = json.loads(run("leaderboard formula --json"))
    assert [row["trial"] for row in rows] == [2, 1, 3, 0] and rows[0]["outside"].keys() == {"test"}
    assert [row["scored_again"] is not None for row in rows] == [True, True, False, False]
    assert rows[0]["scored_again"]["fresh"] == pytest.approx(0.79, abs=0.01)
    assert {"re-evaluation", "search"} <= set(run("leaderboard formula").split())


def test_the_leaderboard_ranks_as_the_study_does_where_the_papers_configuration_breaks_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(luck.SHOWN, RATES[0], (0.5, 0.5))
    home = carried_out(tmp_path, ("inference_ms<=3.5",)).home
    first, second, *_ = (row for _, row in ranked_rows(board(home)))
    assert (first.number, second.number) == (2, 1) and home.champion().trial == 2
    assert first.both > second.both


def test_best_names_the_champion_and_says_how_much_the_search_was_too_good(run):
    told = json.loads(run("best formula --json"))
    assert told["trial"] == told["selection"]["winner"] == 2
    first, second = told["selection"]["scored_again"]
    assert (first["trial"], second["trial"]) == (2, 1)
    assert second["optimism"] == pytest.approx(0.10, abs=0.02) and first["optimism"] < 0.03
    text = " ".join(run("best formula").split())
    assert "Trial 2 has the highest dice over both scorings of 2 finalists." in text
    for one in (first, second):
        assert f"trial {one['trial']}: {100 * one['both']:.2f} over both" in text
    assert "its own score of the search was" in text


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("OSError: cannot open [/scratch/a.npy]\nin detail", "OSError: cannot open [/scratch/a.npy]."),
        ("RuntimeError: [enforce fail] err == 0", "RuntimeError: [enforce fail] err == 0."),
        ("", "unknown."),
    ],
)
def test_why_a_finalist_failed_is_printed_as_it_is(
    run, monkeypatch: pytest.MonkeyPatch, error: str, said: str
):
    monkeypatch.setattr("orchestrator.selection.ranking.failed_reevaluations", lambda *_: {3: error})
    assert f"Trial 3 is left out, for it failed when it was trained again: {said}\n" in run("best formula")


def test_by_another_metric_trials_are_ranked_by_their_folds_alone(run):
    told = json.loads(run("best formula --metric iou --json"))
    assert told["trial"] == 1 and told["selection"]["scored_again"] == []


def test_the_card_says_what_the_second_scoring_has_shown(study: Study):
    standing = study.home.ranked()
    trial, score = next(pair for pair in standing if pair[0].number == 2)
    selection = select_trial(study.home, standing)
    card = trial_card(study.home, trial, score, [champion_fit(trial)], selection)
    assert all(f"- {line}" in card for line in selection.reevaluation_sentences())


def test_mlflow_holds_the_second_scoring_of_every_finalist(
    study: Study, mlflow_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    with Report(study.home, mlflow_uri, say=said.append, show=lambda *_: None) as report:
        report.started(study, Shape(1, 1, 1, 0, "cpu"))
        for trial in study.home.trials()[1:3]:
            report.trial_started(trial.number, trial.params)
            first, *_ = reevaluation_specs(trial.configuration, reevaluation_plan(study.home))
            report.fold_reevaluated(
                trial.number, study.home.ledger.read(first.fit_id), trial.configuration.masks
            )
        report.finished(study.home.trials()[2])
    client = connect(mlflow_uri)
    experiment = client.get_experiment_by_name(study.home.name)
    of_study = f"tags.scored_again = 'true' and tags.study_id = '{study.home.study_id}'"
    runs = client.search_runs([experiment.experiment_id], of_study)
    assert {run.data.tags["trial"] for run in runs} == {"1", "2"}
    of_study = f"tags.champion = 'true' and tags.study_id = '{study.home.study_id}'"
    (champion,) = client.search_runs([experiment.experiment_id], of_study)
    assert champion.data.tags["finalists"] == "2, 1"
    assert champion.data.metrics["rescored_dice_fresh"] == pytest.approx(0.79, abs=0.01)
    assert champion.data.metrics["search_optimism"] == pytest.approx(0.01, abs=0.02)
    assert len(client.search_runs([experiment.experiment_id], "tags.fold = 'again-0'")) == 2
    assert any("scored again" in line for line in said)
