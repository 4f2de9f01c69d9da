"""The real thing, small: Ray, two gloo workers a fit, MLflow, export, all through the command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from shell import Shell, wait_until

from orchestrator import models
from orchestrator.data.cases import load_dataset
from orchestrator.data.images import read_image
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.results.mlflow.client import connect

SPACE = """
network = "unet"
[search]
base_channels = { int = [4, 8], step = 2 }
learning_rate = { log_uniform = [1e-3, 1e-2] }
[fixed]
image_size = 32
epochs = 2
batch_size = 8
[baseline]
base_channels = 4
learning_rate = 5e-3
"""
PIXELS = 40  # of the frames of the unseen dataset: not those that the network sees


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A home with two drawn datasets and a search space."""
    home = tmp_path_factory.mktemp("home")
    (home / "tiny.toml").write_text(SPACE)
    for name, num_cases, size, seed in (("near", 30, 48, 0), ("far", 8, PIXELS, 7)):
        frames = home / f"{name}-frames"
        draw_dataset(frames, num_cases=num_cases, size=size, seed=seed)
        add_dataset(home, name, frames, groups=frames / "groups.csv", allow_empty=True)
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as ray:
        shell = Shell(home, Path(ray))
        yield shell
        shell.close()


def search(shell: Shell, study: str) -> list[str | Path]:
    """The words of one small study's command."""
    data = ["--data", "near", "--unseen", "far", "--splits", "k-fold:3", "--trials", "2", "--study", study]
    how = ["--workers-per-fit", "2", "--address", "local", "--race", "none"]  # every trial gets all folds
    return ["search", shell.home / "tiny.toml", *data, *how, "--rescore", "0"]


@pytest.fixture(scope="module")
def log(shell: Shell) -> str:
    """What an undisturbed search printed."""
    return shell.run(*search(shell, "small"))


@pytest.fixture(scope="module")
def bundle(shell: Shell, log: str) -> Path:
    """The exported champion."""
    said = json.loads(shell.run("best", "small", "--export", shell.home / "champion", "--json"))
    assert said["study"] == "small" and [line["name"] for line in said["scores"]][:2] == ["fold 0", "fold 1"]
    return shell.home / "champion"


def standing(shell: Shell, study: str) -> list[dict[str, Any]]:
    """The leaderboard without the minutes, which no two runs share."""
    rows = json.loads(shell.run("leaderboard", study, "--json"))
    for row in rows:
        del row["minutes"]
    return rows


@pytest.fixture(scope="module")
def board(shell: Shell, log: str) -> list[dict[str, Any]]:
    return standing(shell, "small")


def runs(shell: Shell, role: str, study: str = "small") -> list[Any]:
    client = connect(f"sqlite:///{shell.home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(study)
    return client.search_runs([experiment.experiment_id], f"tags.role = '{role}'")


def records(shell: Shell, study: str = "small") -> dict[str, int]:
    """Every finished fit, and when it was written."""
    found = (shell.home / "studies" / study / "ledger" / "fits").glob("*/record.json")
    return {file.parent.name: file.stat().st_mtime_ns for file in found}


def test_the_log_tells_of_every_fold_and_ends_with_the_leaderboard(log: str):
    assert "1 lane of 2 workers on cpu" in log
    assert [f"trial {trial} fold {fold}" in log for trial in range(2) for fold in range(3)] == [True] * 6
    assert log.index("trial 1 done") < log.index("small, scores on validation images in percent")


def test_the_leaderboard_ranks_both_trials_with_the_unseen_score_of_the_champion(board: list[dict[str, Any]]):
    first, second = board
    assert (first["rank"], second["rank"], first["folds_done"]) == (1, 2, 3)
    assert first["scores"]["dice"] >= second["scores"]["dice"]
    assert first["outside"].keys() == {"test", "far"} and not second["outside"]
    baseline = next(row for row in (first, second) if row["trial"] == 0)
    assert baseline["searched"] == {"base_channels": 4, "learning_rate": 5e-3}


def test_every_fit_was_trained_by_two_workers(shell: Shell, log: str):
    files = (shell.home / "studies" / "small" / "ledger" / "fits").glob("*/record.json")
    assert [json.loads(file.read_text())["world_size"] for file in files] == [2] * 6


def test_mlflow_holds_one_run_a_study_a_trial_and_a_fold(shell: Shell, log: str):
    assert [len(runs(shell, role)) for role in ("study", "trial", "fold")] == [1, 2, 6]
    assert {run.info.status for role in ("study", "trial", "fold") for run in runs(shell, role)} == {
        "FINISHED"
    }
    trials = {run.info.run_id for run in runs(shell, "trial")}
    assert {run.data.tags["mlflow.parentRunId"] for run in runs(shell, "fold")} == trials


def test_fold_runs_hold_curves_over_epochs(shell: Shell, log: str):
    client = connect(f"sqlite:///{shell.home / 'mlflow.db'}")
    for run in runs(shell, "fold"):
        curve = client.get_metric_history(run.info.run_id, "val_dice")
        assert sorted(point.step for point in curve) == [1, 2]


def test_every_run_says_how_many_frames_show_one_place(shell: Shell, log: str):
    said = shell.run("data", "leaks", "near", "far", "--json")
    within = len(json.loads(said)["near_duplicates"])
    tags = [run.data.tags for role in ("study", "trial", "fold") for run in runs(shell, role)]
    assert within > 10 and {tag["near_duplicate_pairs"] for tag in tags} == {str(within)}
    assert {(tag["near_duplicate_pairs_between"], tag["dropped_cases"]) for tag in tags} == {("0", "0")}


def test_trial_runs_hold_parameters_scores_data_and_pictures(shell: Shell, board: list[dict[str, Any]]):
    client = connect(f"sqlite:///{shell.home / 'mlflow.db'}")
    rows = {str(row["trial"]): row for row in board}
    for run in runs(shell, "trial"):
        row = rows[run.data.tags["trial"]]
        assert run.data.params["base_channels"] == str(row["searched"]["base_channels"])
        assert run.data.metrics["dice"] == pytest.approx(row["scores"]["dice"])
        assert [use.dataset.name for use in run.inputs.dataset_inputs] == ["near"]
        pictures = [file.path for file in client.list_artifacts(run.info.run_id, "overlays")]
        assert "overlays/examples.png" in pictures


def test_the_study_run_holds_what_it_was_made_of(shell: Shell, log: str):
    client = connect(f"sqlite:///{shell.home / 'mlflow.db'}")
    (run,) = runs(shell, "study")
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"search_space.toml", "splits.json", "environment.json", "report"}
    uses = {use.dataset.name: use.tags[0].value for use in run.inputs.dataset_inputs}
    assert uses == {"near": "source", "far": "unseen"}


def test_the_same_command_again_trains_nothing_and_doubles_no_run(shell: Shell, board: list[dict[str, Any]]):
    before = records(shell)
    again = shell.run(*search(shell, "small"))
    assert "fold 0" not in again and "scores on validation images in percent" in again
    assert (records(shell), standing(shell, "small")) == (before, board)
    assert [len(runs(shell, role)) for role in ("study", "trial", "fold")] == [1, 2, 6]


def test_the_exported_onnx_stands_alone_and_agrees_with_the_weights(bundle: Path, tmp_path: Path):
    config = json.loads((bundle / "config.json").read_text())
    network = models.build(config["network"], **config["network_params"]).eval()
    network.load_state_dict(load_file(bundle / "model.safetensors"))
    images = torch.rand(3, 3, config["image_size"], config["image_size"])
    with torch.inference_mode():
        expected = network(images)[0].numpy()
    shutil.copy(bundle / "model.onnx", tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(["logits"], {"image": images.numpy()})[0], expected, atol=1e-4)


def test_the_unseen_score_is_the_same_in_leaderboard_mlflow_and_card(
    shell: Shell, board: list[dict[str, Any]], bundle: Path
):
    champion = board[0]
    (run,) = [run for run in runs(shell, "trial") if run.data.tags.get("champion") == "true"]
    assert run.data.tags["trial"] == str(champion["trial"])
    assert run.data.metrics["unseen_far_dice"] == pytest.approx(champion["outside"]["far"])
    percent = f"{100 * champion['outside']['far']:.2f}"
    rows = [
        line
        for line in (bundle / "model_card.md").read_text().splitlines()
        if "| far (unseen) | " in line and "95 %" not in line
    ]
    assert rows and all(percent in row for row in rows)


def test_prediction_writes_masks_of_the_images_own_sizes(shell: Shell, bundle: Path, tmp_path: Path):
    shell.run("predict", bundle, shell.home / "far-frames" / "images", "--out", tmp_path)
    cases = load_dataset(shell.home, "far").cases
    for case in cases:
        mask = read_image(tmp_path / f"{case.image.stem}_mask.png")
        assert mask.shape[:2] == (case.height, case.width) and set(np.unique(mask)) <= {0, 255}
    assert len(list(tmp_path.glob("*_overlay.png"))) == len(cases)


def test_the_exported_model_is_scored_on_what_neither_it_nor_a_near_duplicate_of_it_was_trained_on(
    shell: Shell, board: list[dict[str, Any]], bundle: Path
):
    found = json.loads(shell.run("evaluate", bundle, "--data", "near", "--data", "far", "--json"))
    config = json.loads((bundle / "config.json").read_text())
    assert found["left_out"] == {"near": 30 - len(config["held_out"])}
    assert found["cases"] == 8 + len(config["held_out"]) > found["groups"]
    (far,) = [line for line in found["breakdown"] if line["name"] == "dataset far"]
    assert far["scores"]["dice"] == pytest.approx(board[0]["outside"]["far"], abs=0.02)
    card = (bundle / "model_card.md").read_text()
    assert f"{found['near_duplicate_pairs']} pairs within datasets and 0 between them were found" in card


def test_prediction_names_images_that_are_not_there(shell: Shell, bundle: Path, tmp_path: Path):
    with pytest.raises(AssertionError, match=r"ended with 2(?s:.*)nosuch\.png"):
        shell.run("predict", bundle, "nosuch.png", "--out", tmp_path)


def test_another_program_gets_the_same_masks_from_the_registry(shell: Shell, bundle: Path, tmp_path: Path):
    case = load_dataset(shell.home, "far").cases[0]
    shell.run("predict", bundle, case.image, "--out", tmp_path)
    np.save(tmp_path / "image.npy", read_image(case.image)[None])
    program = """
import mlflow, numpy
model = mlflow.pyfunc.load_model("models:/small@champion")
numpy.save("mask.npy", model.predict(numpy.load("image.npy")))
"""
    environment = shell.environment | {"MLFLOW_TRACKING_URI": f"sqlite:///{shell.home / 'mlflow.db'}"}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
    expected = read_image(tmp_path / f"{case.image.stem}_mask.png")[..., 0] > 0
    np.testing.assert_array_equal(np.load(tmp_path / "mask.npy")[0] > 0, expected)


def test_a_command_leaves_no_process_behind(shell: Shell, log: str):
    wait_until(lambda: not shell.processes(), lambda: f"{shell.processes()} are still there", patience_s=30)


@pytest.mark.slow
def test_a_refit_is_scored_outside_and_exported(shell: Shell, bundle: Path, tmp_path: Path):
    folds = records(shell).keys()
    options = ["--refit", "--workers-per-fit", "2", "--address", "local", "--export", tmp_path / "refit"]
    said = json.loads(shell.run("best", "small", *options, "--json"))
    assert said["fit_id"] not in folds
    assert [line["name"] for line in said["scores"]][-2:] == ["hold-out test", "far (unseen)"]
    card = (tmp_path / "refit" / "model_card.md").read_text()
    assert "trained again on all cases of the folds" in card and "far (unseen)" in card


@pytest.mark.slow
def test_a_study_that_was_interrupted_and_killed_ends_like_one_that_was_not(
    shell: Shell, board: list[dict[str, Any]]
):
    words = search(shell, "disturbed")
    with shell.running(*words) as (process, wait_for):
        wait_for("trial 0 fold 1 ")
        process.send_signal(signal.SIGINT)
        wait_for("the same command continues from here")
        assert process.wait(60) == 130
    with shell.running(*words) as (process, wait_for):
        wait_for("trial 1 fold 0 ")
        process.kill()
        process.wait()
    finished = records(shell, "disturbed")
    assert 3 < len(finished) < 6
    wait_until(lambda: not shell.processes(), lambda: f"{shell.processes()} outlived their study")
    shell.run(*words)
    assert records(shell, "disturbed").items() >= finished.items(), "what was finished was trained again"
    assert len(records(shell, "disturbed")) == 6
    assert records(shell, "disturbed").keys() <= records(shell).keys()
    assert [len(runs(shell, role, "disturbed")) for role in ("study", "trial", "fold")] == [1, 2, 6]
    assert {run.info.status for run in runs(shell, "fold", "disturbed")} == {"FINISHED"}
    assert standing(shell, "disturbed") == board


def test_whatever_is_written_can_be_read_by_whoever_the_umask_lets(shell: Shell, bundle: Path):
    umask = os.umask(0)
    os.umask(umask)
    written = [path for path in shell.home.rglob("*") if not path.is_symlink()]
    allowed = {path: (0o777 if path.is_dir() else 0o666) & ~umask for path in written}
    assert len(written) > 100 and {path.suffix for path in written} >= {
        ".safetensors",
        ".json",
        ".db",
        ".onnx",
        ".npy",
    }
    assert [path for path in written if path.stat().st_mode & 0o777 & allowed[path] != allowed[path]] == []
