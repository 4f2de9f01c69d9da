"""What a stopped trial has shown is the same wherever it is shown, and what was imputed for it is never called Dice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from in_mlflow import runs_of, sync_mlflow
from mlflow.entities import Run
from optuna.trial import FrozenTrial
from visits import DiskStudy

from orchestrator.results.sinks.console import ConsoleSink
from orchestrator.results.views.study_scores import board
from orchestrator.results.views.tables import leaderboard_dicts
from orchestrator.scoring.pending_cases import scores_under
from orchestrator.search.progress.recorded import recorded_status
from orchestrator.search.records.status import TrialView
from orchestrator.search.records.trial_score import fold_specs, score_trial
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.store.trials import StudyTrial
from orchestrator.search.study_spec import StudySpec
from orchestrator.study.runnable_study import RunnableStudy
from orchestrator.terminal.live import picture
from orchestrator.terminal.printing import out


@dataclass(frozen=True)
class Stopped:
    """A trial that was stopped after one fold, of which a second one came in a moment later."""

    study: RunnableStudy
    trial: StudyTrial
    line: str  # of the log
    run: Run
    fold: Run
    row: dict[str, Any]  # of the leaderboard
    view: TrialView  # of the status
    attributes: dict[str, Any]  # in Optuna
    optuna: FrozenTrial

    @property
    def places(self) -> list[dict[str, Any]]:
        """What each place says under these names."""
        shown = self.view.partial
        assert shown is not None
        names = ("folds_seen", "dice_on_seen_folds", "paired_difference")
        sources = [self.run.data.metrics, self.row["partial"], vars(shown), self.attributes]
        return [{name: source[name] for name in names} for source in sources]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, mlflow_uri: str) -> Stopped:
    root = tmp_path_factory.mktemp("home")
    store = StudyStore(root, "formula")
    disk = DiskStudy(root, store.folder, num_trials=4, race="paired", noise=0.1)
    study = replace(disk.study, store=store)
    store.begin(study.space, study.plan)
    disk.run()
    number = next(trial.number for trial in store.trials() if trial.state == "stopped")
    seen = disk.state.judged[number]
    late = next(fold for fold in range(5) if fold not in seen)
    disk.train_fit(number, late)
    said: list[str] = []
    trial = store.trials()[number]
    with ConsoleSink(store, say=said.append, show=lambda *_: None) as console:
        console.trial_finished(trial)
    sync_mlflow(store, mlflow_uri, is_over=False)
    (run,) = [run for run in runs_of(store, mlflow_uri, "trial") if run.data.tags["trial"] == str(number)]
    folds = {run.data.tags["fit_id"]: run for run in runs_of(store, mlflow_uri, "fold")}
    fold = folds[trial.records[0].fit_id]
    (row,) = [row for row in leaderboard_dicts(board(store.snapshot())) if row["trial"] == number]
    (view,) = [view for view in recorded_status(store.snapshot()).trials if view.number == number]
    return Stopped(
        study, trial, said[-1], run, fold, row, view, disk.trials[number].user_attrs, disk.trials[number]
    )


def test_log_status_leaderboard_mlflow_and_optuna_say_the_same_of_a_stopped_trial(stopped: Stopped):
    first, *others = stopped.places
    assert all(other == pytest.approx(first) for other in others)
    assert f"{100 * first['dice_on_seen_folds']:.2f} there" in stopped.line
    assert f"{100 * first['paired_difference']:+.2f} ± " in stopped.line


def test_a_fold_that_came_in_after_the_stop_is_nowhere_one_of_its_folds(stopped: Stopped):
    folds = len(stopped.trial.records)
    specs = fold_specs(stopped.trial.configuration, stopped.study.plan)
    assert sum(stopped.study.store.ledger.has(spec.fit_id) for spec in specs) == folds + 1
    assert stopped.row["folds_done"] == stopped.view.num_done == folds
    assert stopped.run.data.metrics["folds_seen"] == folds
    assert f"stopped after {folds} of 5 folds" in stopped.line


def test_its_dice_and_its_difference_are_those_of_the_images_that_it_was_seen_on(stopped: Stopped):
    shown, records = stopped.trial.partial, stopped.trial.records
    assert shown is not None and shown.compared_with == 0
    score = score_trial(records, stopped.trial.configuration)
    baseline = stopped.study.store.trials()[0]
    same = [one for one in baseline.records if one.spec.fold in {record.spec.fold for record in records}]
    theirs = score_trial(same, baseline.configuration)
    assert shown.dice_on_seen_folds == score.metrics["dice"]
    dice = np.concatenate([scores_under(record.histograms, score.masks)["dice"] for record in records])
    assert shown.dice_on_seen_folds == pytest.approx(dice.mean())
    assert shown.paired_difference == pytest.approx(score.metrics["dice"] - theirs.metrics["dice"])


def test_an_imputed_value_is_called_so_and_nowhere_dice(stopped: Stopped):
    assert "no score" in stopped.attributes["imputed"]
    assert stopped.view.dice is None and stopped.view.estimate is not None
    assert stopped.row["scores"] == {} and "dice" not in stopped.run.data.metrics
    status = recorded_status(stopped.study.store.snapshot())
    with out.capture() as capture:
        out.print(picture(status, out))
    line = next(line for line in capture.get().splitlines() if line.split()[:1] == [str(stopped.view.number)])
    assert line.split()[1][0] in "●#", "no number in the column of dice"


def test_nothing_went_wrong_with_a_stopped_trial_so_no_tag_says_error(stopped: Stopped):
    tags = stopped.run.data.tags
    assert tags["stopped_because"] == stopped.trial.error and "error" not in tags
    assert (tags["state"], stopped.run.info.status) == ("stopped", "FINISHED")


def test_the_dice_of_a_fold_at_its_own_best_threshold_is_named_so(stopped: Stopped):
    metrics = stopped.fold.data.metrics
    assert "dice" not in metrics and "threshold" not in metrics
    assert {"own_threshold_dice", "own_threshold"} <= metrics.keys()


def test_in_optuna_the_value_has_the_name_of_the_objective(stopped: Stopped):
    plain = stopped.study.store.folder.with_name("named")
    store = StudyStore(plain.parents[1], plain.name)
    store.begin(stopped.study.space, stopped.study.plan, StudySpec(objectives=("worst-fold",)))
    assert store.optuna_study().metric_names == ["worst-fold dice"]


def test_optuna_has_the_folds_of_a_trial_and_shows_its_mean_over_them_as_value(stopped: Stopped):
    score = score_trial(stopped.trial.records, stopped.trial.configuration)
    assert list(stopped.attributes["fold_dice"].values()) == pytest.approx(score.fold_dice)
    assert stopped.optuna.value == pytest.approx(stopped.attributes["dice_on_seen_folds"])
    assert [*stopped.optuna.intermediate_values] == [*range(1, len(score.fold_dice) + 1)]
    assert stopped.attributes["mlflow_run"] == stopped.run.info.run_name.split()[0]


def test_a_complete_trial_has_folds_of_one_rule_in_status_best_and_mlflow(stopped: Stopped, mlflow_uri: str):
    store, trial = stopped.study.store, stopped.study.store.trials()[0]
    (view,) = [view for view in recorded_status(store.snapshot()).trials if view.number == 0]
    runs = {run.data.tags["fit_id"]: run for run in runs_of(store, mlflow_uri, "fold")}
    for fold, (record, shown) in enumerate(zip(trial.records, view.folds, strict=True)):
        score = trial.score()
        assert score is not None
        assert runs[record.fit_id].data.metrics["dice"] == pytest.approx(score.fold_dice[fold])
        assert shown.dice == pytest.approx(score.fold_dice[fold])
