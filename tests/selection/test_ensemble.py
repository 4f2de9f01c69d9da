"""Greedy selection over trials, on a study whose networks are really trained, without Ray."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finished import tell_mlflow
from formula import carry_out, finish, formula_study, histograms
from safetensors.torch import load_file
from split_plans import five_fold
from trained import CPU, work_of

from orchestrator import models
from orchestrator.cli import main
from orchestrator.common.errors import BadStudy
from orchestrator.data.images import read_image, read_mask
from orchestrator.data.resize import resize_image, resize_probability
from orchestrator.results.export.bundle import ExportedModel
from orchestrator.scoring.histograms import histogram_of_bins, to_bins
from orchestrator.search.goals.goals import SecondaryGoals
from orchestrator.search.records.fit_records import ScoreRecord, scored_as
from orchestrator.search.records.trial_score import TrialScore
from orchestrator.search.score_job import ScoreJob
from orchestrator.search.store.trials import ranked
from orchestrator.selection import ensemble
from orchestrator.selection.ensemble import Ensemble, candidates, grow, select_ensemble, worth_by
from orchestrator.study.run import begin
from orchestrator.study.runnable_study import RunnableStudy


@pytest.fixture
def study(trained: RunnableStudy) -> RunnableStudy:
    return trained


class Scored:
    """Scores in this process, and remembers what was asked for."""

    def __init__(self, study: RunnableStudy) -> None:
        self.work, self.jobs = work_of(study), []

    def __call__(self, jobs: Sequence[ScoreJob]) -> None:
        self.jobs += jobs
        for job in jobs:
            assert self.work(job, CPU, 0, lambda row: True)


def with_dice(*values: float) -> TrialScore:
    """A score whose cross-fitted Dice is the mean of these."""
    masks, metrics = None, {"dice": -1.0}  # not what an ensemble is judged by
    ids = tuple(map(str, range(len(values))))
    return TrialScore(masks, metrics, (metrics,), ids, {"dice": np.array(values)}, True, (metrics,))  # type: ignore[arg-type]


def grown(worth_of: dict[tuple[int, ...], float], numbers: Sequence[int] = (0, 1, 2)) -> tuple[int, ...]:
    """Who joins trial 0 where these are the scores of ensembles, in any order, and 0 of all others."""

    def score_all(asked: Sequence[tuple[int, ...]]) -> list[TrialScore]:
        return [with_dice(worth_of.get(tuple(sorted(members)), 0.0)) for members in asked]

    return grow(0, numbers, score_all, worth_by(ensemble.Objective(), "dice"))[0]


def test_whoever_raises_the_score_most_joins_first_and_may_join_twice():
    worth = {(0,): 0.5, (0, 1): 0.55, (0, 2): 0.6, (0, 1, 2): 0.61, (0, 2, 2): 0.62, (0, 0, 2, 2): 0.6}
    assert grown(worth) == (0, 2, 2)


def test_nobody_joins_for_too_little():
    assert grown({(0,): 0.5, (0, 1): 0.5 + 0.9 * ensemble.MIN_GAIN}) == (0,)
    assert grown({(0,): 0.5, (0, 1): 0.5 + 1.1 * ensemble.MIN_GAIN}) == (0, 1)


def test_a_score_that_is_not_a_number_is_no_gain():
    assert grown({(0,): 0.5, (0, 1): math.nan, (0, 2): 0.6}) == (0, 2)
    assert grown({(0,): math.nan}) == (0,)


def test_it_ends_at_so_many_members():
    always = {tuple(sorted((0, *[1] * n))): 0.5 + n / 100 for n in range(20)}
    assert grown(always) == (0, 1, 1, 1, 1)
    assert ensemble.MAX_MEMBERS == 5


def test_a_trial_without_company_is_scored_with_nobody():
    assert grown({(0,): 0.5}, numbers=(0,)) == (0,)


@pytest.fixture
def everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is best joins, until there are five."""
    monkeypatch.setattr(ensemble, "MIN_GAIN", -1.0)


def test_every_image_is_scored_by_networks_that_were_not_trained_on_it(study: RunnableStudy, everybody: None):
    score, standing = Scored(study), ranked(study.store.trials())
    found = select_ensemble(study.store.snapshot(), standing, standing[0][0].number, "dice", score)
    assert len(found.trials) == 5 and score.jobs
    for job in score.jobs:
        for fit_id in job.fit_ids:
            assert set(study.store.ledger.read(fit_id).spec.train).isdisjoint(job.case_ids)
    assert found.score.is_cross_fitted
    validated = {case_id for fold in study.plan.folds for case_id in fold.val}
    assert set(found.score.case_ids) == validated and not validated & set(study.plan.test)
    assert found.versus is not None
    gain = found.score.cross_fitted["dice"] - standing[0][1].cross_fitted["dice"]
    assert found.versus.difference == pytest.approx(gain)


def test_a_network_that_is_named_twice_counts_twice(study: RunnableStudy):
    trials = study.store.trials()
    (one, _), (other, _) = trials[0].records, trials[2].records
    (case,) = [case for case in study.datasets[0].cases if case.id == one.case_ids[0]]
    job = ScoreJob(one.fit_id, "fold 0", study.plan.datasets, (case.id,), (other.fit_id, other.fit_id))
    Scored(study)([job])
    image = torch.from_numpy(resize_image(read_image(case.image), 32).copy()).permute(2, 0, 1)[None] / 255
    mean = np.zeros((32, 32))
    for record, share in ((one, 1 / 3), (other, 2 / 3)):
        network = models.build("unet", **record.spec.network_params).eval()
        network.load_state_dict(load_file(record.weights))
        with torch.inference_mode():
            mean += share * network(image)[0].sigmoid()[0, 0].numpy()
    bins = to_bins(resize_probability(mean.astype(np.float32), case.height, case.width))
    ours = histogram_of_bins(bins, read_mask(case.mask)).astype(int)
    found = study.store.ledger.read_scores(scored_as(job.fit_ids), job.case_ids).histograms[0]
    assert np.abs(ours - found.astype(int)).sum() <= 8  # a pixel may round into the next bin


def test_only_trials_of_one_image_size_whose_weights_are_kept_can_join(study: RunnableStudy):
    trials = {trial.number: trial for trial in study.store.trials()}
    other = trials[1].configuration
    larger = replace(other, recipe=other.recipe.model_copy(update={"image_size": 64}))
    gone = [replace(record, folder=Path("nowhere")) for record in trials[2].records]
    changed = trials | {
        1: replace(trials[1], configuration=larger),
        2: replace(trials[2], records=tuple(gone)),
    }
    numbers, left_out = candidates(changed, 0, SecondaryGoals())
    assert numbers == [0]
    assert left_out == ("Trial 1 sees images of 64 pixels, trial 0 of 32: left out.",)
    with pytest.raises(BadStudy, match="were pruned"):
        candidates(changed, 2, SecondaryGoals())


def test_trials_that_share_their_fits_are_one(study: RunnableStudy):
    trials = {trial.number: trial for trial in study.store.trials()}
    assert candidates(trials | {3: replace(trials[0], number=3)}, 0, SecondaryGoals())[0] == [0, 1, 2]


def test_a_trial_that_breaks_a_limit_cannot_join(tmp_path: Path):
    study = formula_study(tmp_path, num_trials=3).with_options(constraints=("inference_ms<=3.5",))
    work = carry_out(study, [1e-4, 2e-3, 3e-3])

    def score(jobs: Sequence[ScoreJob]) -> None:
        for job in jobs:
            work(job, CPU, 0, lambda row: True)

    found = select_ensemble(study.store.snapshot(), study.store.ranked(), 1, "dice", score)
    assert found.num_candidates == 2
    assert found.left_out == ("Trial 0 has inference_ms 4 above the limit of 3.5: left out.",)


def worst_fold(home: Path, together: Sequence[float]) -> Ensemble:
    """Around a trial that is good in nine folds of ten; both trials together find these shares of each polyp."""
    study = formula_study(home, num_trials=2).with_options(objectives=("worst-fold",))
    study = replace(study, plan=five_fold(study.datasets, seed=0, num_folds=10))
    begin(study)
    finish(study, 1e-3, [0.9] * 9 + [0.6])
    finish(study, 1e-4, [0.5] * 10)

    def score(jobs: Sequence[ScoreJob]) -> None:
        for job in jobs:
            found = histograms(together[int(job.name.removeprefix("fold "))], len(job.case_ids))
            study.store.ledger.write_scores(ScoreRecord(job.scored_as, job.name, job.case_ids, found))

    return select_ensemble(study.store.snapshot(), study.store.ranked(), 0, "dice", score)


def test_by_another_objective_it_says_that_one_was_looked_at(tmp_path: Path):
    found = worst_fold(tmp_path, [1.0] * 9 + [0.6])
    assert found.sentences() == (
        "Greedy selection over 2 trials: no further trial raises the worst-fold dice of trial 0 by more than "
        "0.1 points.",
    )


def test_by_another_objective_an_ensemble_may_be_worse_than_the_trial_alone(tmp_path: Path):
    found = worst_fold(tmp_path, [0.7] * 10)
    assert found.versus is not None and found.versus.is_worse
    assert (
        "by worst-fold dice: the mean of trials 0, 1 is worse than trial 0 alone: -" in found.sentences()[0]
    )


@pytest.fixture
def best(
    study: RunnableStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mlflow_uri: str
):
    """`orchestrator best`, which scores in this process."""

    @contextmanager
    def scoring(*_: Any) -> Iterator[Callable]:
        yield Scored(study)

    def score_networks(home: Any, fit_ids: tuple[str, ...], *_: Any) -> None:
        first, *others = fit_ids
        Scored(study)([ScoreJob(first, "test", study.plan.datasets, study.plan.test, tuple(others))])

    monkeypatch.chdir(study.store.home)
    tell_mlflow(study.store, mlflow_uri)
    monkeypatch.setattr("orchestrator.study.champion.scoring", scoring)
    monkeypatch.setattr("orchestrator.study.champion.score_networks", score_networks)
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(study.store.home))

    def best(*words: str | Path) -> str:
        monkeypatch.setattr(
            sys, "argv", ["orchestrator", "best", "formula", *map(str, words), "--tracking-uri", mlflow_uri]
        )
        with pytest.raises(SystemExit) as ended:
            main()
        heard = capsys.readouterr()
        assert not ended.value.code, heard.err
        return heard.out

    return best


@pytest.mark.slow
def test_an_ensemble_of_trials_is_one_bundle_with_an_honest_card(
    study: RunnableStudy,
    best: Callable[..., str],
    everybody: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(ensemble, "MAX_MEMBERS", 3)
    told = json.loads(best("--ensemble", "greedy", "--export", tmp_path / "team", "--json"))
    trials = told["ensemble"]["trials"]
    assert len(trials) == 3 and told["scores"][-1]["name"] == "hold-out test"
    bundle = ExportedModel.load(tmp_path / "team")
    assert bundle.config.members == 2 * len(set(trials)) == len(bundle.config.networks)
    shares = [network.share for network in bundle.config.networks]
    assert sum(shares) == 2 * 3 == len(told["members"])
    channels = {trial.number: trial.params["base_channels"] for trial in study.store.trials()}
    widths = {network.network_params["base_channels"] for network in bundle.config.networks}
    assert widths == {channels[number] for number in trials}
    card = " ".join((tmp_path / "team" / "model_card.md").read_text().split())
    assert f"those of {len(set(trials))} trials, the networks of all their folds, averaged" in card
    assert "Greedy selection over 3 trials" in card and "There is no such score of what is exported" in card
    dice = []
    for case in (case for case in study.datasets[0].cases if case.id in study.plan.test):
        _, mask = bundle.predict(read_image(case.image))
        truth = read_mask(case.mask)
        dice.append(2 * (mask & truth).sum() / (mask.sum() + truth.sum()) if (mask | truth).any() else 1.0)
    assert np.mean(dice) == pytest.approx(told["scores"][-1]["scores"]["dice"], abs=0.01)


def test_best_falls_back_on_the_single_trial_where_nobody_joins(
    best: Callable[..., str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ensemble, "MIN_GAIN", 1.0)
    told = json.loads(best("--ensemble", "best", "--json"))
    assert len(told["members"]) == 1 and told["ensemble"]["trials"] == [told["trial"]]
    text = " ".join(best("--ensemble", "greedy").split())
    assert "no further trial raises the cross-fitted dice" in text
    assert "2 networks are averaged: every image takes the work of 2." in text
