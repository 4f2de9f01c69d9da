"""A nested cross-validation by formula: settings that differ by luck alone, and what is said of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from zlib import crc32

import numpy as np
import pytest
from formula import SPACE, FormulaJobRunner, carry_out, formula_study
from in_mlflow import sync_mlflow
from inline_lanes import InlineLanes
from split_plans import five_fold

import orchestrator.api.study
from orchestrator.cli import main
from orchestrator.common.display import Display
from orchestrator.common.errors import BadStudy
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.ray_cluster.machine import Machine
from orchestrator.results.export.card.scoring import PROCEDURE
from orchestrator.results.export.handover import trial_card
from orchestrator.results.mlflow.client import connect
from orchestrator.search.store.study_store import StudyStore, find_study, list_studies
from orchestrator.search.store.trials import champion_fit
from orchestrator.selection.nested import (
    Nested,
    inner_stores,
    nested_of,
    outer_estimate,
    remember_nested,
)
from orchestrator.study.champion import choose_champion
from orchestrator.study.checks import check
from orchestrator.study.outer import run_outer_folds
from orchestrator.study.run import begin, inner_studies
from orchestrator.study.runnable_study import RunnableStudy
from orchestrator.training.recipe import FitSpec

NUM_OUTER, NUM_CASES, TRUTH = 3, 60, 0.7
RATES = tuple(float(rate) for rate in np.geomspace(1e-5, 1e-1, 12))


class NoiseWork(FormulaJobRunner):
    """No setting is better than another: what it shows on an image is luck, drawn anew for every image."""

    def found(self, spec: FitSpec, case_ids: Sequence[str]) -> np.ndarray:
        seeds = [(round(1e9 * spec.recipe.learning_rate), crc32(case_id.encode())) for case_id in case_ids]
        dice = np.array([TRUTH + np.random.default_rng(seed).normal(0, 0.1) for seed in seeds])
        return np.clip(dice / (2 - dice), 0, 1)  # the share of a polyp that makes this Dice


def carried_out(study: RunnableStudy) -> None:
    """A study from its first trial to its champion."""
    choose_champion(study.store, InlineLanes(carry_out(study, RATES, NoiseWork)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunnableStudy:
    """A study with a hold-out, whose outer folds and itself are over."""
    home = tmp_path_factory.mktemp("home")
    draw_dataset(home / "frames", num_cases=NUM_CASES, size=32)
    dataset = add_dataset(
        home, "drawn", home / "frames", groups=home / "frames" / "groups.csv", allow_empty=True
    )
    study = formula_study(home, num_trials=len(RATES))
    study = replace(study, datasets=(dataset,), plan=five_fold([dataset], seed=0))
    begin(study)
    for inner in inner_studies(study, NUM_OUTER):
        carried_out(inner)
    remember_nested(study.store, outer_estimate(study.store, inner_stores(study.store), str(study.budget)))
    carried_out(study)
    return study


@pytest.fixture(scope="module")
def nested(whole: RunnableStudy) -> Nested:
    found = nested_of(whole.store)
    assert found is not None
    return found


def test_the_best_of_noise_looks_better_than_it_is_and_the_nested_estimate_does_not(
    whole: RunnableStudy, nested: Nested
):
    ((_, score), *_) = whole.store.ranked()
    assert score.metrics["dice"] > TRUTH + 0.01 and nested.validation > TRUTH + 0.01
    low, high = nested.interval
    assert low < TRUTH < high and abs(nested.scores["dice"] - TRUTH) < 0.03
    assert nested.bias == nested.validation - nested.scores["dice"]


def test_every_case_but_the_hold_out_counts_once(whole: RunnableStudy, nested: Nested):
    assert nested.num_cases == NUM_CASES - len(whole.plan.test)
    sizes = [fold.num_cases for fold in nested.folds]
    means = [fold.scores["dice"] for fold in nested.folds]
    assert nested.scores["dice"] == pytest.approx(np.average(means, weights=sizes))
    assert nested.spread == pytest.approx(np.std(means, ddof=1))


def test_no_study_of_an_outer_fold_was_shown_its_cases_before_its_champion_was_named(whole: RunnableStudy):
    group_of = whole.store.group_of_case()
    for home in inner_stores(whole.store):
        plan = home.plan()
        groups = {group_of[id] for id in plan.test}
        fits = [record.spec for trial in home.trials() for record in trial.records]
        assert len(fits) == len(RATES) * 5
        assert not any(group_of[id] in groups for spec in fits for id in (*spec.train, *spec.val))
        scored = list(home.ledger.scores.glob("*/record.json"))
        champion = home.champion()
        assert champion is not None and len(scored) == 1
        assert home.ledger.has_scores(champion.fit_id, plan.test)


def test_a_study_of_an_outer_fold_searches_as_the_whole_one_does(whole: RunnableStudy):
    for inner in inner_studies(whole.with_options(race="none", rescore=2), NUM_OUTER):
        same = replace(inner, store=whole.store, plan=whole.plan)
        assert same == whole.with_options(race="none", rescore=2)
        assert inner.store.space().digest == whole.store.space().digest


def test_studies_of_outer_folds_are_found_by_name_and_crowd_no_list(whole: RunnableStudy):
    home = whole.store.home
    assert [study.name for study in list_studies(home)] == ["formula"]
    assert find_study(home, None).name == "formula"
    assert find_study(home, "formula.outer-2").champion() is not None
    assert [study.name for study in inner_stores(whole.store)] == [f"formula.outer-{n}" for n in (1, 2, 3)]
    assert list_studies(home / "nowhere") == []


def test_a_study_cannot_go_on_with_another_number_of_outer_folds(whole: RunnableStudy):
    with pytest.raises(BadStudy, match="splits: was"):
        begin(inner_studies(whole, 4)[0])


@pytest.fixture
def run(
    whole: RunnableStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], tuple[int, str, str]]:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(whole.store.home))
    monkeypatch.setenv("COLUMNS", "200")

    def run(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["orchestrator", *line.split()])
        with pytest.raises(SystemExit) as ended:
            main()
        heard = capsys.readouterr()
        return int(ended.value.code or 0), heard.out, heard.err

    return run


def test_a_study_of_an_outer_fold_that_goes_on_has_no_part_in_an_estimate_before_it_is_over(
    whole: RunnableStudy,
):
    before, heard = nested_of(whole.store), list[str]()
    longer = whole.with_options(trials=99, hours=1)
    run_outer_folds(longer, NUM_OUTER, Machine(device="cpu"), lambda study: None, Display(heard.append))
    assert "formula.outer-1, formula.outer-2, formula.outer-3 named no champion" in heard[-1]
    assert nested_of(whole.store) == before


def test_best_and_leaderboard_tell_the_nested_estimate(run, nested: Nested):
    told = json.loads(run("best formula --json")[1])["nested"]
    assert told["scores"]["dice"] == nested.scores["dice"] and len(told["folds"]) == NUM_OUTER
    for line in ("best formula", "leaderboard formula"):
        text = " ".join(run(line)[1].split())
        assert all(sentence in text for sentence in nested.sentences())
    assert f"search ({nested.until}) and choice included, on new images" in nested.sentences()[0]
    assert json.loads(run("best formula.outer-1 --json")[1])["nested"] is None


def test_the_card_tells_the_nested_estimate_and_of_whom_it_is(whole: RunnableStudy, nested: Nested):
    trial, score = whole.store.ranked()[0]
    card = trial_card(whole.store.snapshot(), trial, score, [champion_fit(trial)])
    assert all(f"- {sentence}" in card for sentence in nested.sentences()) and PROCEDURE in card


@pytest.mark.slow
def test_mlflow_holds_the_nested_estimate_with_the_study(
    whole: RunnableStudy, nested: Nested, mlflow_uri: str
):
    for study in (whole, inner_studies(whole, NUM_OUTER)[0]):
        sync_mlflow(study.store, mlflow_uri)
    client = connect(mlflow_uri)
    experiment = client.get_experiment_by_name("formula").experiment_id
    newest = ["attributes.start_time DESC"]  # other tests have studies of this name
    run, *_ = client.search_runs([experiment], "tags.role = 'study'", order_by=newest)
    assert run.data.metrics["nested_dice"] == pytest.approx(nested.scores["dice"])
    assert run.data.metrics["nested_bias"] == pytest.approx(nested.bias)
    assert run.data.tags["nested"] == nested.sentences()[0]
    inner = client.get_experiment_by_name("formula.outer-1")
    (run,) = client.search_runs([inner.experiment_id], "tags.role = 'study'")
    assert run.data.tags["outer_fold_of"] == "formula" and "nested_dice" not in run.data.metrics


def test_the_command_carries_out_every_outer_fold_and_then_the_study(run, tmp_path, monkeypatch):
    done: list[str] = []

    def in_hand(study: RunnableStudy, machine, work, sinks) -> object:
        done.append(study.store.name)
        check(study, machine)
        if study.store.champion() is None:
            carry_out(study, RATES[:2], NoiseWork)
            return choose_champion(study.store, InlineLanes(NoiseWork(study.store.ledger)))
        return study.store.trials()[study.store.champion().trial]

    monkeypatch.setattr(orchestrator.api.study, "run_study", in_hand)
    (tmp_path / "space.toml").write_text(SPACE.text)
    words = f"search {tmp_path / 'space.toml'} --data drawn --no-near-duplicates --trials 2 --study twice --nested 2"
    code, text, err = run(words)
    assert code == 0, err
    assert done == ["twice.outer-1", "twice.outer-2", "twice"]
    assert "outer fold 1 of 2: twice.outer-1" in text and "Nested estimate: Dice" in text
    assert run(words)[0] == 0 and done == ["twice.outer-1", "twice.outer-2", "twice"] * 2


def test_an_outer_fold_whose_hours_were_over_is_reported_and_waits_for_the_next_run(
    run, tmp_path, monkeypatch, whole: RunnableStudy
):
    def out_of_time(study: RunnableStudy, machine, work, sinks) -> object:
        carry_out(study, RATES[:2], NoiseWork)
        is_late = study.store.name == "late.outer-2"
        return None if is_late else choose_champion(study.store, InlineLanes(NoiseWork(study.store.ledger)))

    monkeypatch.setattr(orchestrator.api.study, "run_study", out_of_time)
    (tmp_path / "space.toml").write_text(SPACE.text)
    words = f"search {tmp_path / 'space.toml'} --data drawn --no-near-duplicates --hours 1 --study late --nested 2"
    code, text, err = run(words)
    assert code == 0 and "late.outer-2 named no champion in its hours" in " ".join(err.split())
    assert "Nested estimate" not in text and nested_of(StudyStore(whole.store.home, "late")) is None


def test_what_cannot_be_nested_is_refused_before_a_study_is_begun(run, tmp_path, whole: RunnableStudy):
    (tmp_path / "space.toml").write_text(SPACE.text)
    code, _, err = run(
        f"search {tmp_path / 'space.toml'} --data drawn --no-near-duplicates --trials 2 --study much --nested 40"
    )
    assert code == 2 and "--nested" in err and "fewer outer folds" in err
    assert not StudyStore(whole.store.home, "much").exists()
