"""One network, one set of numbers: wherever a score is shown, it is that network's, and the same everywhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from finished import finished_study, refit_here, tell_mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Run
from mlflow.entities.model_registry import ModelVersion

from orchestrator.cli import main
from orchestrator.results.mlflow.client import connect
from orchestrator.results.mlflow.model_registry import logged_model_of
from orchestrator.results.views.study_scores import board
from orchestrator.results.views.tables import leaderboard_dicts
from orchestrator.search.progress.recorded import recorded_status
from orchestrator.search.store.trials import champion_fit
from orchestrator.study.runnable_study import RunnableStudy

# Two exports, and a registry: tests/system/test_end_to_end.py compares the unseen score.
pytestmark = pytest.mark.slow

NAME = "formula"


@dataclass(frozen=True)
class Handed:
    """What one `best --export` left behind."""

    said: dict[str, Any]  # its JSON
    told: str  # on the other stream
    folder: Path
    version: ModelVersion
    run: Run
    model: LoggedModel

    @property
    def card(self) -> str:
        return " ".join((self.folder / "model_card.md").read_text().split())

    def line(self, name: str) -> dict[str, float]:
        """The scores of one line of the table."""
        return next(line["scores"] for line in self.said["scores"] if line["name"] == name)


@dataclass(frozen=True)
class Exports:
    study: RunnableStudy
    client: MlflowClient
    refit: Handed
    fold: Handed


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """A study of which the refit was exported, then the network of a fold."""
    home = tmp_path_factory.mktemp("home")
    uri = f"sqlite:///{home / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        study, work = finished_study(home, [1e-4, 1e-3, 2e-3])
        tell_mlflow(study.store, uri)
        patch.setattr(
            "orchestrator.study.champion.refit", lambda one, trial, *_: refit_here(work, one, trial)
        )
        export = _exporting(study, uri, patch, tmp_path_factory)
        return Exports(study, connect(uri), refit=export("--refit"), fold=export())


def _exporting(
    study: RunnableStudy, uri: str, patch: pytest.MonkeyPatch, folders: pytest.TempPathFactory
) -> Callable[..., Handed]:
    def export(*words: str) -> Handed:
        folder, heard = folders.mktemp("export") / "model", {"stdout": "", "stderr": ""}
        line = ["best", NAME, "--home", study.store.home, "--export", folder, "--json", *words]
        with pytest.MonkeyPatch.context() as streams:
            streams.setattr(sys, "argv", ["orchestrator", *map(str, line), "--tracking-uri", uri])
            streams.setattr(sys.stdout, "write", lambda text: _add(heard, "stdout", text))
            streams.setattr(
                "orchestrator.terminal.printing.err.print", lambda text, **_: _add(heard, "stderr", text)
            )
            with pytest.raises(SystemExit) as ended:
                main()
        assert not ended.value.code, heard
        client = connect(uri)
        numbers = [int(one.version) for one in client.search_model_versions(f"name = '{NAME}'")]
        version = client.get_model_version(NAME, str(max(numbers)))
        run, model = client.get_run(version.run_id), client.get_logged_model(logged_model_of(version))
        return Handed(json.loads(heard["stdout"]), heard["stderr"], folder, version, run, model)

    return export


def _add(heard: dict[str, str], stream: str, text: str) -> int:
    heard[stream] += text
    return len(text)


def in_mlflow(handed: Handed) -> tuple[dict[str, float], dict[str, float]]:
    """Metrics of the run, and of the logged model."""
    return handed.run.data.metrics, {metric.key: metric.value for metric in handed.model.metrics}


@pytest.mark.parametrize("which", ["refit", "fold"])
def test_the_registered_version_its_model_its_run_and_its_card_have_the_scores_that_were_printed(
    exports: Exports, which: str
):
    handed: Handed = getattr(exports, which)
    metrics, of_model = in_mlflow(handed)
    for prefix, line in (("test", "hold-out test"), ("unseen_far", "far (unseen)")):
        printed = handed.line(line)
        for metric in ("dice", "iou", "recall"):
            assert metrics[f"{prefix}_{metric}"] == of_model[f"{prefix}_{metric}"] == printed[metric]
        assert f"{100 * printed['dice']:.2f}" in handed.card
        assert f"{100 * printed['dice']:.2f}" in handed.version.description
    assert metrics["threshold"] == handed.said["threshold"]
    assert metrics["threshold"] == json.loads((handed.folder / "config.json").read_text())["threshold"]


def test_the_refit_and_the_fold_network_are_two_runs_with_different_scores(exports: Exports):
    refit, fold = exports.refit.run, exports.fold.run
    assert (refit.data.tags["role"], fold.data.tags["role"]) == ("refit", "fold")
    assert refit.data.metrics["test_dice"] != fold.data.metrics["test_dice"]
    assert "dice" not in refit.data.metrics, "it has validated nothing"


def test_the_outside_scores_on_the_runs_of_trial_and_study_name_the_network_whose_they_are(exports: Exports):
    fold, client = exports.fold, exports.client
    of_study = f"tags.study_id = '{exports.study.store.study_id}' and metrics.test_dice >= 0"
    runs = client.search_runs([fold.run.info.experiment_id], of_study)
    others = {run.data.tags["role"]: run for run in runs if run.data.tags["role"] in ("trial", "study")}
    assert others.keys() == {"trial", "study"}
    for run in others.values():
        assert run.data.tags["outside_scores_of"] == fold.version.tags["network"]
        assert run.data.metrics["test_dice"] == fold.run.data.metrics["test_dice"]


def test_leaderboard_status_best_and_the_run_of_the_fold_agree(exports: Exports):
    home, fold = exports.study.store, exports.fold
    row = leaderboard_dicts(board(home.snapshot()))[0]
    status = recorded_status(home.snapshot())
    (view,) = [view for view in status.trials if view.number == row["trial"]]
    assert row["outside"] == {
        "test": fold.line("hold-out test")["dice"],
        "far": fold.line("far (unseen)")["dice"],
    }
    assert home.optuna_study().user_attrs["champion"] == row["trial"]
    assert row["cross_fitted"] == fold.line("cross-validation")["dice"]
    assert status.best is not None and view.dice == status.best.dice == row["scores"]["dice"]
    assert fold.run.data.metrics["dice"] == fold.line(fold.version.tags["fold"])["dice"]
    number = int(fold.version.tags["fold"].removeprefix("fold "))
    assert view.folds[number].dice == pytest.approx(fold.run.data.metrics["dice"])


def test_the_run_of_a_refit_has_its_curve_parameters_data_and_size(exports: Exports):
    run = exports.refit.run
    steps = [point.step for point in exports.client.get_metric_history(run.info.run_id, "train_loss")]
    num_images = 24 - len(exports.study.plan.test)
    assert (sorted(steps), run.info.status) == ([1, 2], "FINISHED")
    assert (run.data.metrics["num_train_images"], run.data.metrics["epochs_run"]) == (num_images, 2)
    assert (run.data.params["stop_after"], run.data.params["optimizer"]) == ("2", "adamw")
    assert run.data.params["epochs"] == "3" and run.data.params["learning_rate"] == "0.001"
    uses = {(use.dataset.name, use.tags[0].value) for use in run.inputs.dataset_inputs}
    assert uses == {("drawn", "training"), ("far", "unseen")}


@pytest.mark.parametrize("which", ["refit", "fold"])
def test_a_logged_model_knows_its_version_and_the_data_of_its_scores(exports: Exports, which: str):
    handed: Handed = getattr(exports, which)
    known = json.loads(handed.model.tags["mlflow.modelVersions"])
    assert known == [{"name": NAME, "version": int(handed.version.version)}]
    data = {metric.key: metric.dataset_name for metric in handed.model.metrics}
    assert (data["unseen_far_dice"], data["test_dice"], data["threshold"]) == ("far", "drawn", None)
    assert handed.model.source_run_id == handed.version.run_id


def test_a_version_says_which_network_of_which_trial_and_study_it_is(exports: Exports):
    refit, fold = exports.refit.version.tags, exports.fold.version.tags
    assert (refit["kind"], refit["trial"], refit["study"]) == ("refit", "1", NAME)
    assert refit["refit"] == exports.refit.said["fit_id"]
    assert fold["kind"] == "fold" and fold["fold"].startswith("fold ") and "refit" not in fold


def test_a_network_of_another_kind_takes_the_alias_only_when_asked(exports: Exports):
    assert "@champion stands for it" in exports.refit.told
    assert "@champion stays with version 1 (refit of trial 1)" in exports.fold.told
    assert "--champion moves it" in exports.fold.told
    assert exports.client.get_model_version_by_alias(NAME, "champion").version == 1


def test_the_card_counts_the_images_that_its_network_was_trained_on(exports: Exports):
    (trial, _), *_ = exports.study.store.ranked()
    spec, num_test = champion_fit(trial).spec, len(exports.study.plan.test)
    assert f"| drawn | trained on | {24 - num_test} of 24 |" in exports.refit.card
    assert f"It was trained on {24 - num_test} images, which is few." in exports.refit.card
    assert "for 2 of the 3 epochs of its schedule" in exports.refit.card
    assert f"| drawn | trained on | {len(spec.train)} of 24 |" in exports.fold.card
    assert f"It was trained on {len(spec.train)} images, which is few." in exports.fold.card
    assert f"24 images, less {num_test} held out for the test, leaves {24 - num_test}" in exports.fold.card
    assert f"trained on {len(spec.train)} images and validated on {len(spec.val)}" in exports.fold.card
