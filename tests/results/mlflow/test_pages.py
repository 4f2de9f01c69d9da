"""MLflow's pages of a small study, as a browser shows them; screenshots are left in build/screenshots."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import pytest
import torch
from browser import Browser, browser, installed
from formula import FormulaJobRunner
from inline_lanes import InlineLanes
from visits import DiskStudy

from orchestrator.results.export.exported_network import network_of
from orchestrator.results.mlflow.client import connect, default_uri
from orchestrator.results.mlflow.model_registry import register_champion
from orchestrator.results.mlflow.network_run import log_network
from orchestrator.results.mlflow.sink import MlflowSink
from orchestrator.search.score_job import ScoreJob
from orchestrator.search.store.study_store import StudyStore
from orchestrator.study.champion import choose_champion, spec_of_refit

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(installed() is None, reason="no Chromium is installed"),
]
SHOTS = Path(__file__).parents[3] / "build" / "screenshots"


@dataclass(frozen=True)
class Pages:
    """A browser, and MLflow's server with a study of which trials are finished and stopped."""

    tab: Browser
    first: str  # the address that `orchestrator ui` prints
    store: StudyStore

    def open(self, place: str, *texts: str) -> str:
        """The text of a page, once it has these texts; a screenshot is named after the first."""
        base = self.first.partition("#")[0]
        self.tab.open(f"{base}#{place}{'&' if '?' in place else '?'}workflowType=machine_learning")
        return self.seen(*texts)

    def seen(self, *texts: str) -> str:
        self.tab.wait_for(*texts)
        page = self.tab.settled()
        self.tab.screenshot(SHOTS / f"{re.sub('[^a-z0-9]+', '-', texts[0].lower())}.png")
        return page

    def run_id(self, number: int) -> str:
        client = connect(default_uri(self.store.home))
        wanted = f"tags.role = 'trial' and tags.trial = '{number}'"
        return str(client.search_runs([self.experiment], wanted)[0].info.run_id)

    @property
    def experiment(self) -> str:
        return str(connect(default_uri(self.store.home)).get_experiment_by_name("formula").experiment_id)

    def number(self, state: str) -> int:
        """The first trial of that state."""
        return next(trial.number for trial in self.store.trials() if trial.state == state)


def synced(root: Path, bundle: Path) -> StudyStore:
    """A raced study whose champion was trained again on all cases and registered, and all of it in MLflow."""
    store = StudyStore(root, "formula")
    disk = DiskStudy(root, store.folder, num_trials=6, race="paired", noise=0.1)
    study = replace(disk.study, store=store)
    store.begin(study.space, study.plan, study.spec)
    disk.run()
    work = FormulaJobRunner(store.ledger, noise=0.1)
    champion = choose_champion(store, InlineLanes(work))
    with MlflowSink(store) as sink:
        sink.finished(champion)
        sink.close(300)
    assert champion is not None
    refit = spec_of_refit(store, champion)
    work(refit, torch.device("cpu"), 0, lambda row: True)
    now = store.snapshot()
    for name, case_ids in now.outside_cases.items():
        job = ScoreJob(refit.fit_id, name, now.plan.datasets, case_ids, ())
        work(job, torch.device("cpu"), 0, lambda row: True)
    score, uri = now.finished_score(champion), default_uri(root)
    network = network_of(now, champion, [now.read(refit.fit_id)], score.masks)
    register_champion(
        bundle,
        tracking_uri=uri,
        study=store.name,
        study_id=store.study_id,
        network=network,
        run_id=log_network(store, network, uri),
        description="A refit, by formula.",
    )
    return store


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, exported: Path) -> Iterator[Pages]:
    root = tmp_path_factory.mktemp("home")
    home = synced(root, exported)
    words = [sys.executable, "-m", "orchestrator", "ui", "formula", "--no-browser", "--home", str(root)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as ui:
        assert ui.stdout is not None
        first = ui.stdout.readline().strip()
        with browser() as tab:
            tab.open(first.partition("#")[0])
            tab.wait_for("Experiments")
            tab.evaluate("localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false')")
            yield Pages(tab, first, home)
        ui.send_signal(signal.SIGINT)
        assert "has ended" in ui.stdout.read() and ui.wait(60) == 0


def test_the_first_page_has_the_trials_with_their_dice_parameters_and_state(pages: Pages):
    pages.tab.open(pages.first)
    page = pages.seen(
        "Trials by Dice", "trial-000 unet", "dice_cross_fitted_low", "learning_rate", "state", "stopped"
    )
    best = pages.store.ranked()[0][1].metrics["dice"]
    assert f"{best:.4f}"[:5] in page, "the champion's Dice"
    assert "fold-0" not in page and "which learning_rate of unet give the highest dice" in page


def test_a_stopped_trial_is_no_failure_and_says_what_it_has_shown(pages: Pages):
    number = pages.number("stopped")
    place = f"/experiments/{pages.experiment}/runs/{pages.run_id(number)}"
    page = pages.open(place, "Stopped by the race", "dice_on_seen_folds", "best_val_dice", "weight_decay")
    assert "Finished" in page and "Killed" not in page and "Failed" not in page


def test_the_folds_of_each_trial_are_curves_in_one_chart(pages: Pages):
    place = f"/experiments/{pages.experiment}/runs?viewStateShareKey=folds&compareRunsMode=CHART"
    page = pages.open(place, "Folds and their curves", "Group: 0", "train_loss", "0 (val_dice)")
    assert "No charts in this section" not in page


def test_finished_and_stopped_trials_compare_on_the_same_axes(pages: Pages):
    numbers = pages.number("complete"), pages.number("stopped")
    runs = quote(json.dumps([pages.run_id(number) for number in numbers]))
    page = pages.open(
        f"/compare-runs?runs={runs}&experiments={quote(json.dumps([pages.experiment]))}",
        "Comparing 2 Runs",
        "Parallel Coordinates Plot",
        "best_val_dice",
        "learning_rate",
    )
    assert "Please select" not in page


def test_parallel_coordinates_have_every_trial_of_the_study(pages: Pages):
    place = f"/experiments/{pages.experiment}/runs?viewStateShareKey=trials&compareRunsMode=CHART"
    page = pages.open(place, "Parallel coordinates", "Showing all runs", "best_val_dice", "learning_rate")
    assert page.count("Showing all runs") == 2, "against the Dice of all trials, and of those with all folds"


def test_the_registered_model_belongs_to_the_run_of_the_refit_and_both_say_so(pages: Pages):
    page = pages.open("/models/formula/versions/1", "A refit, by formula.", "refit of trial", "refit")
    assert "champion" in page
    version = connect(default_uri(pages.store.home)).get_model_version("formula", "1")
    place = f"/experiments/{pages.experiment}/runs/{version.run_id}"
    page = pages.open(place, "refit", "test_dice", "num_train_images", "Registered models", "exported")
    assert re.search(r"Registered models\s+formula\s*v?1", page), page
