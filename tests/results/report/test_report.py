"""The report of a study from its facts: one page, tables, checklists."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.results.report.checklists import CHECKLISTS, YOURS, filled, markdown
from orchestrator.results.report.facts import (
    ChampionFacts,
    DatasetFacts,
    FitFacts,
    ScoreFacts,
    StudyFacts,
    TrialFacts,
)
from orchestrator.results.report.figures import calibration, importances, strata
from orchestrator.results.report.page import report_page
from orchestrator.results.report.paper_tables import as_csv, latex, rows
from orchestrator.results.report.paper_tables import markdown as markdown_table
from orchestrator.results.report.prose import energy, images_for_one_point, methods

CURVE = tuple((1 / epoch, 0.1 * epoch) for epoch in range(1, 8))


def fits(number: int, count: int, dice: float) -> tuple[FitFacts, ...]:
    return tuple(
        FitFacts(fold, dice + 0.01 * fold, 60.0, 1e9 + 300 * number + 60 * fold, 7, 7, CURVE)
        for fold in range(count)
    )


def trial(number: int, rate: float, dice: float, *, state: str = "complete") -> TrialFacts:
    whole = state == "complete"
    return TrialFacts(
        number=number,
        state=state,
        searched={"learning_rate": rate, "optimizer": "adam" if number % 2 else "adamw"},
        fits=fits(number, 5 if whole else 1, dice),
        num_folds=5,
        dice=dice if whole else None,
        interval=(dice - 0.03, dice + 0.02) if whole else None,
        cross_fitted=dice - 0.004 if whole else None,
        seen=dice,
        reason=None if whole else "worse",
    )


def champion() -> ChampionFacts:
    rng = np.random.default_rng(0)
    share = np.where(rng.random(40) < 0.2, 0, rng.uniform(0.001, 0.3, 40))
    level = np.arange(256)
    return ChampionFacts(
        trial=1,
        folds=(ScoreFacts("fold 0", 20, None, {"dice": 0.8}, None),),
        scores=(
            ScoreFacts("cross-validation", 40, 12, {"dice": 0.81, "iou": 0.7}, (0.76, 0.85)),
            ScoreFacts("Far (unseen)", 90, None, {"dice": 0.61, "iou": 0.5}, (0.55, 0.66)),
        ),
        case_ids=tuple(f"near/{k}" for k in range(40)),
        dice=rng.uniform(0.2, 1, 40),
        polyp_share=share,
        centers=tuple("AB"[k % 2] for k in range(40)),
        histograms=np.stack([1000 * (255 - level), 1000 * level]),
        by_threshold=np.sin(np.linspace(0, np.pi, 256)),
        threshold=0.5,
        worst=(("near/3", b"\x89PNG"),),
    )


@pytest.fixture
def study() -> StudyFacts:
    trials = [trial(k, 10 ** -(1 + k / 3), 0.6 + 0.02 * k) for k in range(8)]
    return StudyFacts(
        name="one",
        network="unet",
        objective="mean",
        race="paired",
        sampler="surrogate",
        seed=3,
        state="ended",
        budget={"trials": 9},
        space='network = "unet"\n',
        split="five-fold-seed3",
        split_digest="ab" * 16,
        splits=tuple((f"fold {k}", 32, 8) for k in range(5)),
        num_test=4,
        num_near_duplicates=6,
        groups_known=True,
        datasets=(
            DatasetFacts("near", "searched on", 44, 12, 2, 5, 1, 0, "f" * 32),
            DatasetFacts("Far", "external", 90, None, 0, 0, 0, 3, "e" * 32),
        ),
        trials=(*trials, trial(8, 0.5, 0.2, state="stopped")),
        verdicts=((1e9 + 2500, 8, "stop", "worse"),),
        selection=("Trial 1 was chosen.", "It beats the baseline."),
        champion=champion(),
        metrics={"parameters": 31e6},
        devices={"Tesla V100-SXM3-32GB": 41},
        lanes="2 lanes of 1 worker",
        initial="At random.",
        versions={"torch": "2.10.0"},
        commands=("orchestrator search unet --data near",),
    )


def test_the_page_is_whole_and_needs_no_network(study: StudyFacts):
    page = report_page([study])
    assert not re.search(r"(src|href)=[\"']?https?:", page) and "<script" not in page
    assert page.count("<svg") == 10 and len(page) < 5_000_000
    for heading in ("What was asked", "Data", "The search", "The champion", "Cost", "Methods", "Reproduce"):
        assert f">{heading}</h2>" in page


def test_a_study_without_a_champion_has_a_page(study: StudyFacts):
    bare = replace(study, champion=None, trials=study.trials[-1:], verdicts=())
    assert "No champion was chosen yet" in report_page([bare])


def test_what_racing_saved_is_what_stopped_trials_lack(study: StudyFacts):
    assert (study.num_fits, study.num_saved) == (41, 4)
    assert "Racing trained 41 of the 45 fits" in report_page([study])


def test_the_parameter_that_decides_is_the_important_one(study: StudyFacts):
    found = importances(study)
    assert next(iter(found)) == "learning_rate" and sum(found.values()) == pytest.approx(1)
    assert importances(replace(study, trials=study.trials[:3])) == {}


def test_calibration_of_probabilities_that_are_shares_is_near_zero():
    assert calibration(champion())[1] < 0.01
    upside_down = replace(champion(), histograms=champion().histograms[::-1])
    assert calibration(upside_down)[1] > 0.3


def test_strata_hold_every_case_once_by_size_and_once_by_center():
    rows = strata(champion())
    assert sum(count for kind, _, count, _ in rows if kind == "center") == 40
    assert sum(count for kind, _, count, _ in rows if kind != "center") == 40


def test_tables_have_the_columns_of_papers(study: StudyFacts):
    table = rows([study], frozenset({"one"}))
    assert table[0] == [
        "Method",
        "Data",
        "n",
        "DSC",
        "mIoU",
        "Recall",
        "Precision",
        "F2",
        "95 % of DSC",
        "Params (M)",
    ]
    assert (
        table[2][:5] == ["unet (one)*", "Far (unseen)", "90", "0.6100", "0.5000"] and table[2][-1] == "31.00"
    )
    assert r"\toprule" in latex(table) and "95 \\% of DSC" in latex(table)
    assert as_csv(table).count("\n") == 3 and markdown_table(table).count("|\n") == 4


def test_images_for_one_point_grow_with_the_square_of_the_interval():
    line = ScoreFacts("x", 100, 10, {}, (0.78, 0.82))
    assert images_for_one_point(line) == 400
    assert images_for_one_point(replace(line, interval=None)) is None


def test_energy_is_hours_times_the_power_of_the_device(study: StudyFacts):
    kwh, how = energy(study)
    assert kwh == pytest.approx(41 / 60 * 0.3) and "300 W" in how


def test_methods_say_what_was_done(study: StudyFacts):
    text = methods(study)
    for fact in (
        "44 images",
        "five-fold-seed3",
        "9 configurations",
        "8 were trained",
        "1 were stopped",
        "41 fits",
        "Far",
    ):
        assert fact in text


@pytest.mark.parametrize("name", sorted(CHECKLISTS))
def test_a_checklist_is_numbered_and_leaves_to_people_what_they_alone_know(name, study: StudyFacts):
    found = filled(name, study)
    assert [number for number, *_ in found] == [str(k) for k in range(1, len(found) + 1)]
    assert any(answer == YOURS for *_, answer in found)
    assert markdown(name, study).count("\n|") == len(found) + 2


def test_three_fifths_of_claim_are_filled_by_machine(study: StudyFacts):
    found = filled("claim", study)
    assert len(found) == 44
    assert sum(answer != YOURS for *_, answer in found) >= 0.6 * 44
