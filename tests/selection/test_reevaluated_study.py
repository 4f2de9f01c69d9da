"""What is said of finalists that were scored again: leaderboard, best, card and MLflow."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import lucky_fits
import pytest
from formula import Heard, carry_out, formula_study
from in_mlflow import runs_of, sync_mlflow
from inline_lanes import InlineLanes
from lucky_fits import RATES, LuckyWork

from orchestrator.cli import main
from orchestrator.results.export.handover import trial_card
from orchestrator.results.sinks.console import ConsoleSink
from orchestrator.results.views.study_scores import board
from orchestrator.results.views.tables import ranked_rows
from orchestrator.search.budget.gate import BudgetGate
from orchestrator.search.budget.usage import ResourceUsage
from orchestrator.search.progress.monitor import ProgressMonitor
from orchestrator.search.store.trials import champion_fit
from orchestrator.selection.ranking import select_trial
from orchestrator.selection.reevaluation import reevaluate
from orchestrator.study.champion import choose_champion
from orchestrator.study.runnable_study import RunnableStudy


def carried_out(home: Path, constraints: tuple[str, ...] = ()) -> RunnableStudy:
    """Trial 1 was lucky in the search, trial 2 is the champion of both scorings."""
    study = formula_study(home, num_trials=4).with_options(rescore=3, constraints=constraints)
    lanes = InlineLanes(carry_out(study, RATES, LuckyWork))
    gate, heard = BudgetGate(study.budget, ResourceUsage(study.store.ledger)), Heard()
    monitor = ProgressMonitor(study.store, gate, "none", heard.progress)
    assert reevaluate(study.store, 3, lanes, gate, lambda: False, monitor, heard)
    choose_champion(study.store, lanes)
    return study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> RunnableStudy:
    return carried_out(tmp_path_factory.mktemp("home"))


@pytest.fixture
def run(
    study: RunnableStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(study.store.home))
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
    assert [row["reevaluated"] is not None for row in rows] == [True, True, False, False]
    assert rows[0]["reevaluated"]["fresh"] == pytest.approx(0.79, abs=0.01)
    assert {"re-evaluation", "search"} <= set(run("leaderboard formula").split())


def test_the_leaderboard_ranks_as_the_study_does_where_the_papers_configuration_breaks_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(lucky_fits.SHOWN, RATES[0], (0.5, 0.5))
    store = carried_out(tmp_path, ("inference_ms<=3.5",)).store
    first, second, *_ = (row for _, row in ranked_rows(board(store.snapshot())))
    assert (first.number, second.number) == (2, 1) and store.champion().trial == 2
    assert first.both > second.both


def test_best_names_the_champion_and_says_how_much_the_search_was_too_good(run):
    told = json.loads(run("best formula --json"))
    assert told["trial"] == told["selection"]["winner"] == 2
    first, second = told["selection"]["reevaluated"]
    assert (first["trial"], second["trial"]) == (2, 1)
    assert second["optimism"] == pytest.approx(0.10, abs=0.02) and first["optimism"] < 0.03
    text = " ".join(run("best formula").split())
    assert "Trial 2 has the highest dice over search and re-evaluation of 2 finalists." in text
    for one in (first, second):
        assert f"trial {one['trial']}: {100 * one['both']:.2f} over both" in text
    assert "its own score in the search was" in text


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
    monkeypatch.setattr(
        "orchestrator.selection.reevaluation.StoredReevaluation.failed", lambda *_: {3: error}
    )
    assert f"Trial 3 is left out, because it failed when it was trained again: {said}\n" in run(
        "best formula"
    )


def test_by_another_metric_trials_are_ranked_by_their_folds_alone(run):
    told = json.loads(run("best formula --metric iou --json"))
    assert told["trial"] == 1 and told["selection"]["reevaluated"] == []


def test_the_card_says_what_the_second_scoring_has_shown(study: RunnableStudy):
    standing = study.store.ranked()
    trial, score = next(pair for pair in standing if pair[0].number == 2)
    selection = select_trial(study.store.snapshot(), standing)
    card = trial_card(study.store.snapshot(), trial, score, [champion_fit(trial)], selection)
    assert all(f"- {line}" in card for line in selection.reevaluation_sentences())


def test_mlflow_holds_the_second_scoring_of_every_finalist_and_the_console_prints_it(
    study: RunnableStudy, mlflow_uri: str
):
    said: list[str] = []
    champion = study.store.trials()[2]
    with ConsoleSink(study.store, say=said.append, show=lambda *_: None) as console:
        console.finished(champion)
    sync_mlflow(study.store, mlflow_uri, champion=champion)
    trials = runs_of(study.store, mlflow_uri, "trial")
    again = {run.data.tags["trial"] for run in trials if run.data.tags.get("reevaluated") == "true"}
    assert again == {"1", "2"}
    (best,) = [run for run in trials if run.data.tags.get("champion") == "true"]
    assert best.data.tags["finalists"] == "2, 1"
    assert best.data.metrics["rescored_dice_fresh"] == pytest.approx(0.79, abs=0.01)
    assert best.data.metrics["search_optimism"] == pytest.approx(0.01, abs=0.02)
    folds = [run.data.tags["fold"] for run in runs_of(study.store, mlflow_uri, "fold")]
    redrawn = [fold for fold in folds if "re-evaluation" in fold]
    assert sorted(redrawn) == sorted([f"re-evaluation-{n}" for n in range(5)] * 2)
    assert any("re-evaluated" in line for line in said)
