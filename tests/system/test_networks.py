"""A study over three tiny networks on drawn frames, killed and resumed, from search to export."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from outcome import leftovers
from shell import Shell

from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.results.mlflow.client import connect
from orchestrator.search.store.study_store import StudyStore

pytestmark = pytest.mark.slow

SPACE = """
network = { choice = ["unet", "resunet_pp", "colonsegnet"] }
[search]
learning_rate = { log_uniform = [1e-3, 1e-2] }
[fixed]
image_size = 32
epochs = 2
batch_size = 8
[baseline]
learning_rate = 5e-3
[unet.search]
base_channels = { choice = [2, 4] }
[unet.baseline]
base_channels = 4
[resunet_pp.fixed]
base_channels = 8
batch_size = 4
[colonsegnet.fixed]
base_channels = 4
[colonsegnet.search]
learning_rate = { log_uniform = [1e-4, 1e-2] }
"""
NUM_TRIALS = 5


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    home = tmp_path_factory.mktemp("home")
    draw_dataset(home / "near-frames", num_cases=32, size=32)
    add_dataset(home, "near", home / "near-frames", allow_empty=True)
    (home / "three.toml").write_text(SPACE)
    with tempfile.TemporaryDirectory(prefix="ray") as ray:
        found = Shell(home, Path(ray))
        yield found
        found.close()


def search(shell: Shell, name: str) -> list[str | Path]:
    data = [
        "--data",
        "near",
        "--splits",
        "k-fold:2",
        "--trials",
        str(NUM_TRIALS),
        "--rescore",
        "0",
        "--seed",
        "1",
    ]
    how = ["--lanes", "1", "--address", "local", "--device", "cpu", "--study", name]
    return ["search", shell.home / "three.toml", *data, *how]


@pytest.fixture(scope="module")
def study(shell: Shell) -> StudyStore:
    """Killed after its first fits, and resumed."""
    with shell.running(*search(shell, "three")) as (process, wait_for):
        wait_for("fold 1")
        os.kill(process.pid, signal.SIGKILL)
    shell.close()
    shell.run(*search(shell, "three"))
    return StudyStore(shell.home, "three")


def test_a_study_over_networks_that_was_killed_ends_like_one_that_was_not(shell: Shell, study: StudyStore):
    shell.run(*search(shell, "whole"))
    whole = StudyStore(shell.home, "whole")
    assert [one.params for one in study.stored_trials()] == [one.params for one in whole.stored_trials()]
    networks = [trial.configuration.network for trial in study.trials()]
    assert networks[:3] == ["unet", "resunet_pp", "colonsegnet"] and len(networks) == NUM_TRIALS
    assert not leftovers(study)


def test_leaderboard_mlflow_and_export_name_the_network(shell: Shell, study: StudyStore, tmp_path: Path):
    rows = json.loads(shell.run("leaderboard", "three", "--json"))
    of_trial = {trial.number: trial.configuration.network for trial in study.trials()}
    assert {row["trial"]: row["network"] for row in rows} == of_trial
    said = shell.run("leaderboard", "three")
    assert "networks, by the best trial of each" in said and "against the best" in said
    client = connect(f"sqlite:///{shell.home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("three")
    runs = [run.data for run in client.search_runs([experiment.experiment_id], "tags.role = 'trial'")]
    found = {int(run.tags["trial"]): (run.params["network"], run.tags["network"]) for run in runs}
    assert found == {number: (name, name) for number, name in of_trial.items()}
    shell.run("best", "three", "--export", tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["network"] == rows[0]["network"]


def test_the_report_has_a_section_by_network(shell: Shell, study: StudyStore, tmp_path: Path):
    shell.run("report", "three", "--out", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<h3>By network</h3>" in page and all(name in page for name in ("resunet_pp", "colonsegnet"))
