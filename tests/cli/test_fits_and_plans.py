"""`orchestrator fit` and `orchestrator plan`, in this process."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from typed import Run

from orchestrator.data.cache.prune import cache_entries
from orchestrator.data.cases import load_dataset
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.results.export.bundle import ExportedModel
from orchestrator.results.mlflow.client import connect
from orchestrator.results.views.score_lines import epoch_line


def test_a_fit_prints_its_epochs_and_scores_once_and_the_same_scores_again(run: Run):
    first = run("fit tiny.toml --data drawn --fold 2 --device cpu")
    assert first.code == 0, first.err
    assert "epoch 1/2" in first.out and "epoch 2/2" in first.out and "at threshold" in first.out
    again = run("fit tiny.toml --data drawn --fold 2 --device cpu")
    assert "epoch 1/2" not in again.out, "it was trained twice"
    assert again.out.splitlines() == [line for line in first.out.splitlines() if "images/s" not in line]


def test_a_fit_that_is_over_keeps_no_image_open(run: Run, home: Path):
    assert run("fit tiny.toml --data drawn --fold 1 --device cpu --set epochs=1").code == 0
    entries = cache_entries(home / "cache", [load_dataset(home, "drawn")])
    assert entries and not any(entry.in_use for entry in entries)


def test_an_epoch_without_validation_shows_no_dice():
    row = {"epoch": 0, "train_loss": 0.5, "val_dice": 0.25, "learning_rate": 1e-3, "images_per_second": 8.0}
    assert epoch_line(row, 3) == "epoch 1/3  loss 0.5000  val dice 25.00  lr 1.00e-03  8.0 images/s"
    assert epoch_line(row | {"val_dice": math.nan}, 3) == "epoch 1/3  loss 0.5000  lr 1.00e-03  8.0 images/s"


def test_set_changes_what_is_trained(run: Run):
    done = run(
        "fit tiny.toml --data drawn --device cpu --set epochs=1 --set loss=bce --set base_channels=6 --set momentum=0.5"
    )
    assert done.code == 0, done.err
    assert "--set momentum has no effect" in done.err and "--set loss" not in done.err
    assert "epoch 1/1" in done.out and "epoch 2" not in done.out


def test_a_plan_forecasts_every_width_that_divides_the_batch_with_and_without_a_race(run: Run):
    done = run("plan tiny.toml --data drawn --gpus 2 --trials 4 --sampled 1 --price 3 --rescore 0 --json")
    assert done.code == 0
    rows = done.json["forecasts"]
    assert [(row["race"], row["width"], row["num_lanes"]) for row in rows] == [
        (race, width, 2 // width) for race in ("none", "paired") for width in (1, 2)
    ]
    assert {row["fits"] for row in rows if row["race"] == "none"} == {20}
    assert all(row["fits"] < 20 for row in rows if row["race"] == "paired")
    again = run("plan tiny.toml --data drawn --gpus 1 --trials 4 --sampled 1 --race none --json").json
    assert all(20 < row["fits"] <= 20 + 3 * 5 for row in again["forecasts"])  # finalists twice
    assert all(row["cost"] == pytest.approx(3 * row["gpu_hours"], abs=0.01) for row in rows)


@pytest.mark.slow
def test_a_plan_leaves_each_worker_the_images_that_its_network_needs(run: Run):
    text = (
        Path("tiny.toml")
        .read_text()
        .replace('"unet"', '"deeplabv3p_mobilenet"')
        .replace("base_channels = 4", "pretrained = false")
    )
    Path("small.toml").write_text(text)
    done = run("plan small.toml --data drawn --gpus 4 --trials 2 --sampled 0 --rescore 0 --race none --json")
    assert done.code == 0, done.err
    assert [row["width"] for row in done.json["forecasts"]] == [1, 2]


@pytest.mark.slow
def test_a_plan_knows_the_splits_of_a_search_with_unseen_datasets(run: Run, home: Path):
    add_dataset(home, "unseen", home / "frames", allow_empty=True)
    assert (
        run(
            "data split drawn --unseen unseen --splits cross-dataset --no-near-duplicates --out far.json"
        ).code
        == 0
    )
    for splits in ("cross-dataset", "far.json"):
        done = run(
            f"plan tiny.toml --data drawn --unseen unseen --splits {splits} --gpus 1 --trials 4 --sampled 0 --json"
        )
        assert done.code == 0, done.err


def test_a_fit_that_diverges_is_a_failure_not_a_mistake(run: Run):
    # Each step makes the weights nine times larger, with the other sign.
    explosive = "--set learning_rate=10 --set weight_decay=1 --set schedule=constant --set epochs=40"
    done = run(f"fit tiny.toml --data drawn --no-near-duplicates --device cpu --set batch_size=2 {explosive}")
    assert done.code == 1, done.out
    assert done.err.startswith("failed: ") and "learning rate" in done.err, done.err


@pytest.mark.slow
def test_a_fit_leaves_a_bundle_and_one_run_in_mlflow_where_these_are_asked_for(run: Run, tmp_path: Path):
    uri = f"sqlite:///{tmp_path / 'fits.db'}"
    line = (
        "fit tiny.toml --data drawn --no-near-duplicates --splits k-fold:2 --device cpu --set epochs=1 "
        f"--export bundle --log --tracking-uri {uri} --json"
    )
    first, second = run(line).json, run(line).json
    logged = connect(uri).get_run(first["run_id"])
    assert logged.data.metrics["dice"] == pytest.approx(first["scores"]["dice"])
    assert logged.data.params["network"] == "unet" and logged.info.status == "FINISHED"
    assert second["run_id"] == first["run_id"]
    assert ExportedModel.load(Path(first["bundle"])).config.network == "unet"
    assert "Not a medical device" in (tmp_path / "bundle" / "model_card.md").read_text()
    other = run(line.replace("--set epochs=1", "--set epochs=1 --fold 1"))  # nobody can be asked here
    assert other.code == 2 and "holds another network" in other.err and "--yes" in other.err


def test_a_fit_that_could_not_be_exported_is_not_trained(run: Run):
    done = run("fit tiny.toml --data drwan --export empty/../frames.txt --log --tracking-uri /folder")
    assert done.code == 2 and "drwan" in done.err and "MLFLOW_TRACKING_URI" in done.err
