"""`orchestrator best` on a study of several trials, whose fits are made by formula."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from finished import tell_mlflow
from formula import SPACE, carry_out, formula_study, replace_weights
from in_mlflow import runs_of, sync_mlflow
from safetensors.torch import load_file
from split_plans import five_fold

from orchestrator import models
from orchestrator.cli import main
from orchestrator.data.images import read_image, read_mask
from orchestrator.data.resize import resize_image, resize_probability
from orchestrator.data.splits.plan import make_plan
from orchestrator.results.export.bundle import ExportedModel
from orchestrator.results.export.handover import trial_card
from orchestrator.results.mlflow.client import connect
from orchestrator.results.views.study_scores import board
from orchestrator.results.views.tables import leaderboard
from orchestrator.scoring.histograms import histogram_of_bins, to_bins
from orchestrator.search.fit_jobs import FitJobRunner
from orchestrator.search.records.fit_records import scored_as
from orchestrator.search.score_job import ScoreJob
from orchestrator.search.space.space_file import parse_space
from orchestrator.search.store.trials import champion_fit, ranked
from orchestrator.selection.ranking import select_trial, training_seconds
from orchestrator.study.runnable_study import RunnableStudy

RATES = (1e-4, 1e-3, 1.02e-3, 1e-2)  # the best is 1e-3, of the next the formula knows no difference


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> RunnableStudy:
    study = formula_study(tmp_path_factory.mktemp("home"), num_trials=len(RATES))
    carry_out(study, RATES)
    return study


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> RunnableStudy:
    """A study of one trial with two small networks, scored together on the hold-out cases."""
    home = tmp_path_factory.mktemp("tiny")
    space = parse_space(SPACE.text.replace("[fixed]", '[fixed]\nbase_channels = 4\ntta = "flips"'))
    study = formula_study(home, num_trials=1)
    study = replace(study, space=space, plan=five_fold(study.datasets, seed=0, num_folds=2))
    carry_out(study, [1e-3])
    (trial,) = study.store.trials()
    torch.manual_seed(0)
    for record in trial.records:
        replace_weights(record, models.build("unet", base_channels=4))
    first, *others = [record.fit_id for record in trial.records]
    job = ScoreJob(first, "test", study.plan.datasets, study.plan.test, tuple(others))
    work = FitJobRunner(home, home / "cache", study.store.ledger)
    assert work(job, torch.device("cpu"), 0, lambda row: True)
    return study


@pytest.fixture
def said(
    study: RunnableStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """What a command leaves behind: exit code, output, errors."""

    def said(line: str, of: RunnableStudy = study) -> tuple[int, str, str]:
        monkeypatch.setenv("ORCHESTRATOR_HOME", str(of.store.home))
        monkeypatch.setattr(sys, "argv", ["orchestrator", *line.split()])
        with pytest.raises(SystemExit) as ended:
            main()
        heard = capsys.readouterr()
        return int(ended.value.code or 0), heard.out, heard.err

    return said


@pytest.fixture
def run(said: Callable[..., tuple[int, str, str]]) -> Callable[..., str]:
    def run(line: str, *of: RunnableStudy) -> str:
        code, out, err = said(line, *of)
        assert not code, err
        return out

    return run


def test_best_says_what_cannot_be_told_from_the_winner_and_what_was_gained(run):
    told = json.loads(run("best formula --json"))["selection"]
    assert (told["winner"], told["chosen"], told["num_compared"]) == (1, 1, 3)
    assert [one["other"] for one in told["not_significantly_different"]] == [2]
    gain = told["against_baseline"]
    assert gain["difference"] == pytest.approx(1 - 2 * 0.368 / 1.368, abs=0.01) and gain["p_value"] < 0.05
    text = " ".join(run("best formula").split())
    assert "these are not significantly different from trial 1 by dice: 2." in text
    assert "Trial 1 is better than the baseline, trial 0, by +46" in text
    gained, winner, baseline = map(
        float, re.search(r"by \+(\S+) points of dice \((\S+) less (\S+) cross-fitted; 95 %", text).groups()
    )
    assert winner - baseline == pytest.approx(gained, abs=0.011)


def test_the_rule_of_one_standard_error_is_explained(run):
    told = json.loads(run("best formula --rule one-se --json"))
    assert told["selection"]["rule"] == "one-se" and "standard error" in told["selection"]["reason"]
    assert told["trial"] == told["selection"]["chosen"]


def test_a_machine_that_was_busy_makes_no_trial_expensive(study: RunnableStudy):
    slow, fast = {"seconds": 9.0}, {"seconds": 2.0}
    record = study.store.trials()[0].records[0]
    busy = replace(record, curves=(slow, fast, slow), world_size=2)
    assert training_seconds([busy, busy]) == training_seconds([replace(busy, curves=(fast,) * 3)] * 2) == 24


def test_the_card_says_how_the_trial_was_chosen(study: RunnableStudy):
    standing = ranked(study.store.trials())
    trial, score = standing[0]
    selection = select_trial(study.store.snapshot(), standing)
    card = trial_card(study.store.snapshot(), trial, score, [champion_fit(trial)], selection)
    assert "## How it was chosen" in card and all(f"- {line}" in card for line in selection.sentences())


def test_the_run_of_the_champion_tells_what_was_gained(study: RunnableStudy, mlflow_uri: str):
    sync_mlflow(study.store, mlflow_uri, champion=study.store.trials()[1])
    trials = runs_of(study.store, mlflow_uri, "trial")
    (champion,) = [run for run in trials if run.data.tags.get("champion") == "true"]
    assert champion.data.tags["beats_baseline"] == "yes"
    assert champion.data.tags["not_significantly_different"] == "2"
    assert champion.data.metrics["gain_over_baseline"] > 0.4


def test_fold_networks_are_scored_together_by_the_mean_of_their_probabilities(tiny: RunnableStudy):
    (trial,) = tiny.store.trials()
    (case,) = [case for case in tiny.datasets[0].cases if case.id == tiny.plan.test[0]]
    scores = tiny.store.ledger.read_scores(scored_as([r.fit_id for r in trial.records]), tiny.plan.test)
    image = torch.from_numpy(resize_image(read_image(case.image), 32).copy()).permute(2, 0, 1)[None] / 255
    looks = []
    for record in trial.records:
        network = models.build("unet", base_channels=4).eval()
        network.load_state_dict(load_file(record.weights))
        with torch.inference_mode():
            looks += [network(image.flip(axes))[0].flip(axes).sigmoid() for axes in ((), (2,), (3,), (2, 3))]
    mean = torch.stack(looks).mean(0)[0, 0].numpy()
    bins = to_bins(resize_probability(mean, case.height, case.width))
    ours = histogram_of_bins(bins, read_mask(case.mask)).astype(int)
    assert np.abs(ours - scores.histograms[0].astype(int)).sum() <= 8  # a pixel may round into the next bin


@pytest.mark.slow
def test_an_ensemble_of_folds_is_one_bundle_with_an_honest_card(
    tiny: RunnableStudy, run, tmp_path: Path, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    tell_mlflow(tiny.store, mlflow_uri)
    folder = tmp_path / "pair"
    line = f"best formula --ensemble folds --export {folder} --champion --tracking-uri {mlflow_uri} --json"
    told = json.loads(run(line, tiny))
    assert len(told["members"]) == 2 and told["scores"][-1]["name"] == "hold-out test"
    bundle = ExportedModel.load(folder)
    assert (bundle.config.members, bundle.config.tta) == (2, "flips")
    card = " ".join((folder / "model_card.md").read_text().split())
    assert (
        "the networks of all 2 folds, averaged" in card
        and "mean over 2 networks and the image and its" in card
    )
    assert "**Of their mean there is no such score**" in card and "free of this: hold-out test" in card
    assert "`0.` to `1.`" in card and ", an image takes " in card
    version = connect(mlflow_uri).get_model_version_by_alias("formula", "champion")
    assert version.tags["members"] == "2" and "the highest dice" in version.tags["chosen_for"]
    frame = next((tiny.store.home / "frames" / "images").iterdir())
    run(f"predict {folder} {frame} --out {tmp_path / 'masks'}", tiny)
    assert len(list((tmp_path / "masks").iterdir())) == 3
    scored = json.loads(run(f"evaluate {folder} --data drawn --no-near-duplicates --json", tiny))
    assert scored["scores"]["dice"]["mean"] == pytest.approx(told["scores"][-1]["scores"]["dice"], abs=0.01)


def test_the_folder_of_a_plot_is_made(run, tmp_path: Path):
    plot = tmp_path / "new" / "folder" / "x.png"
    assert f"plot in {plot}" in run(f"compare formula:0 formula:1 --plot {plot}")
    assert plot.read_bytes()[:4] == b"\x89PNG"


def test_a_plot_that_no_folder_can_hold_is_refused_before_anything_is_printed(said, tmp_path: Path):
    (tmp_path / "file").touch()
    code, out, err = said(f"compare formula:0 formula:1 --plot {tmp_path / 'file' / 'x.png'}")
    assert (code, out) == (2, "") and "file" in err


def test_of_one_fold_that_chose_its_own_threshold_nothing_stands_for_cross_fitted(run, tmp_path: Path):
    study = formula_study(tmp_path, num_trials=1)
    study = replace(study, plan=make_plan("holdout", study.datasets, seed=0, holdout=0.1))
    carry_out(study, [1e-3])
    (row,) = json.loads(run("leaderboard formula --json", study))
    assert row["cross_fitted"] is None and row["interval"] is None
    (row,) = board(study.store.snapshot())
    (column,) = [
        one for one in leaderboard([row], "").renderables[0].columns if "cross-fitted" in str(one.header)
    ]
    assert list(column.cells) == ["–"]


def test_what_cannot_be_averaged_is_refused(said):
    code, _, err = said("best formula --ensemble folds --refit")
    assert code == 2 and "--refit trains one network" in err


def test_an_export_of_another_study_is_not_replaced_unless_that_is_said(said, exported: Path, tmp_path: Path):
    folder = tmp_path / "champion"
    shutil.copytree(exported, folder)
    (folder / "model_card.md").write_text(
        "# unet\n\nTrial 4 of the study `other`; weights: fold 2. Input: RGB\n"
    )
    before = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code, _, err = said(f"best formula --export {folder}")
    assert code == 2 and "--yes" in err and "Trial 4 of the study `other`" in err
    assert {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
