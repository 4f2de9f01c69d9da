"""The report of a study from its facts: one page, tables, checklists."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from orchestrator.common.errors import BadStudy
from orchestrator.data.stated_fields import FIELDS
from orchestrator.results.report.champion_facts import shown_of_network, shown_of_training
from orchestrator.results.report.checklists.filled import counts, filled, markdown
from orchestrator.results.report.checklists.lists import CHECKLISTS
from orchestrator.results.report.facts import (
    ChampionFacts,
    CostFacts,
    DatasetFacts,
    FitFacts,
    StudyFacts,
    TrialFacts,
    WorstCase,
)
from orchestrator.results.report.figures.champion import calibration_error
from orchestrator.results.report.figures.importance import (
    FEWEST,
    conditional_importances,
    importances,
    without_importance,
)
from orchestrator.results.report.figures.search import search_pictures
from orchestrator.results.report.files import Report, refuse_foreign
from orchestrator.results.report.page import Compared, report_page
from orchestrator.results.report.paper_tables import as_csv, latex, rows
from orchestrator.results.report.paper_tables import markdown as markdown_table
from orchestrator.results.report.prose import (
    cost_sentence,
    energy,
    flow,
    images_for_one_point,
    methods,
    settings_text,
)
from orchestrator.results.views.score_lines import ScoreLine
from orchestrator.scoring.statistics import Share
from orchestrator.search.space.space_file import parse_space
from orchestrator.training.recipe import USED_WITH, Recipe

CURVE = tuple((1 / epoch, 0.1 * epoch) for epoch in range(1, 8))
V100 = CostFacts("search", "Tesla V100-SXM3-32GB", True, 41, 41 / 60, 41 / 60)


def fits(number: int, count: int, dice: float) -> tuple[FitFacts, ...]:
    return tuple(
        FitFacts(fold, dice + 0.01 * fold, 60.0, 1e9 + 300 * number + 60 * fold, 7, CURVE)
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
        seen=None if whole else dice,
        reason=None if whole else "worse",
        objective=dice if whole else None,
    )


def champion() -> ChampionFacts:
    level = np.arange(256)
    return ChampionFacts(
        trial=1,
        network="that of fold 2 of trial 1, the fold of median Dice",
        params={"image_size": 352, "learning_rate": 0.01},
        recipe=shown_of_training(Recipe(image_size=352, learning_rate=0.01)),
        options={},
        folds=(ScoreLine("fold 0", 20, {"dice": 0.8}),),
        scores=(
            ScoreLine("cross-validation", 40, {"dice": 0.81, "iou": 0.7}, (0.76, 0.85), 12),
            ScoreLine("Far (unseen)", 90, {"dice": 0.61, "iou": 0.5}, (0.55, 0.66)),
        ),
        strata=(ScoreLine("center A", 20, {"dice": 0.8}),),
        dice=np.random.default_rng(0).uniform(0.2, 1, 40),
        histograms=np.stack([1000 * (255 - level), 1000 * level]),
        by_threshold=np.sin(np.linspace(0, np.pi, 256)),
        threshold=0.5,
        is_swept=True,
        is_cross_fitted=True,
        found=Share(30, 32),
        left_empty=Share(5, 8),
        worst=(WorstCase("near/3", 0.2, 0.05), WorstCase("near/4", 0.3, 0.01)),
    )


@pytest.fixture
def study() -> StudyFacts:
    trials = [trial(k, 10 ** -(1 + k / 3), 0.6 + 0.02 * k) for k in range(8)]
    return StudyFacts(
        name="one",
        network="unet",
        objective="dice",
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
            DatasetFacts("near", "searched on", 44, 12, 2, 5, {"no mask": 1}, {}, 4, 40, "f" * 32),
            DatasetFacts("Far", "external", 90, None, 0, 0, {}, {"near-duplicates": 3}, 0, 0, "e" * 32),
        ),
        trials=(*trials, trial(8, 0.5, 0.2, state="stopped")),
        verdicts=((1e9 + 2500, 8, "stop", "worse"),),
        selection=("Trial 1 was chosen.", "It beats the baseline."),
        champion=champion(),
        metrics={"parameters": 31e6},
        costs=(V100,),
        initial="All weights begin at random.",
        versions={"torch": "2.10.0"},
        commands=("orchestrator search space.toml --data near",),
        log_scaled=frozenset({"learning_rate"}),
    )


def another(name: str) -> object:
    """A value of a field of the recipe that is not its default."""
    one = Recipe.model_fields[name]
    named = {"scales": ["0.75, 1"], "augmentation": ["rand_augment"]}
    by_kind = {bool: [True, False], int: [0, 1, 33, 100], float: [0.5, 0.25]}
    values = named.get(name) or by_kind.get(one.annotation) or get_args(one.annotation)
    least = max((getattr(limit, "ge", 0) for limit in one.metadata), default=0)
    return next(
        value for value in values if value != one.default and (isinstance(value, str) or value >= least)
    )


@pytest.mark.parametrize("name", Recipe.model_fields)
def test_the_methods_name_every_setting_of_training_that_is_not_its_default(study: StudyFacts, name: str):
    needs = {other: values[0] for field, (other, values) in USED_WITH.items() if field == name}
    needs |= {"schedule": "plateau"} if name == "plateau_patience" else {}
    recipe = Recipe(**needs | {name: another(name)})
    champion = replace(study.champion, recipe=shown_of_training(recipe))
    said = settings_text({name: getattr(recipe, name)})
    assert said in methods(replace(study, champion=champion))
    assert set(needs) <= set(champion.recipe) and "momentum" not in {*champion.recipe} - {name}


def test_a_frozen_encoder_and_options_of_the_network_are_in_methods_and_checklists(study: StudyFacts):
    recipe = Recipe(
        sampling="centers", augmentation="rand_augment", augmentation_strength=0.25, freeze_epochs=3
    )
    champion = replace(
        study.champion, options={"adaptation": "lora", "lora_rank": 4}, recipe=shown_of_training(recipe)
    )
    adapted = replace(study, champion=champion, metrics={"parameters": 22e6, "trained": 1e6})
    said = {one.number: one.text for one in filled("claim", adapted)}
    assert "unet with adaptation lora and lora rank 4, trained with" in methods(adapted)
    assert (
        "Of its 22,000,000 parameters 1,000,000 were trained" in methods(adapted)
        and "1,000,000" in said["24"]
    )
    assert "freeze epochs 3" in said["24"] and "lora rank 4" in said["24"]
    assert "augmentation strength 0.25" in said["9"] and "sampling centers" in said["9"]


def test_the_encoder_is_reported_also_where_it_is_the_default():
    space = parse_space('network = "encoder_decoder"\n[fixed]\nwidth = 64\nepochs = 3\n')
    told = shown_of_network(space.configuration(space.baseline_params()))
    assert told == {"encoder": "tf_efficientnet_lite0", "width": 64}


def test_texts_and_checklists_that_there_are_not_are_refused_with_the_nearest(study: StudyFacts):
    made = Report((study,), Compared(), "")
    with pytest.raises(BadStudy, match="did you mean latex"):
        made.text("latexx")
    with pytest.raises(BadStudy, match="did you mean midl"):
        made.checklist("midll")


def test_a_page_does_not_go_to_a_file_named_as_stdout_is(tmp_path: Path):
    with pytest.raises(BadStudy, match="texts alone go to stdout"):
        refuse_foreign(tmp_path / "-")


def test_an_answer_ends_before_what_people_have_to_add(study: StudyFacts):
    for name in ("claim", "tripod", "midl"):
        for one in filled(name, study):
            assert one.state != "filled in part" or re.search(r"\. For you to write: ", one.text), one


def test_nothing_is_said_of_scores_outside_the_folds_before_there_are_any(study: StudyFacts):
    champion = replace(study.champion, scores=study.champion.scores[:1])
    studies = replace(study, champion=champion), study
    before, after = ({one.number: one.text for one in filled("claim", known)} for known in studies)
    assert "outside the folds" in after["27"] and "outside the folds" not in before["27"]
    assert "to be scored once, after the search" in before["35"]


def test_the_page_is_whole_and_needs_no_network(study: StudyFacts):
    page = report_page([study])
    assert (
        not re.search(r"(src|href)=[\"']?https?:|url\(", page.replace("url(#", "")) and "<script" not in page
    )
    assert page.count("<svg") == 10 and len(page) < 5_000_000
    for heading in (
        "What was asked",
        "Data",
        "The search",
        "The champion",
        "Cost",
        "Methods, for a paper",
        "Do it again",
    ):
        assert f">{heading}</h2>" in page


def test_a_study_without_a_finished_fit_has_a_page_that_says_so(study: StudyFacts):
    bare = replace(
        study, champion=None, trials=(), verdicts=(), costs=(), why_no_champion="None is finished."
    )
    page = report_page([bare])
    for sentence in (
        "No trial has begun yet",
        "None is finished.",
        "No fit is on record yet",
        "No figure of history",
    ):
        assert sentence in page
    assert all(one.figure is None and one.missing for one in search_pictures(bare))


def test_several_objectives_have_a_front_and_columns_of_their_own(study: StudyFacts):
    some = tuple(
        replace(one, secondary={"gmacs": 2.0 + one.number}, on_front=one.number > 5) for one in study.trials
    )
    page = report_page(
        [replace(study, trials=some, secondary=("gmacs",), front=("trial 7: dice 74.00, gmacs 9",))]
    )
    assert "Pareto front" in page and 'id="front"' in page and "<th>gmacs</th>" in page


def test_a_trial_ranked_by_another_goal_is_drawn_by_that_goal_alone(study: StudyFacts):
    other = replace(study, objective="worst-fold dice")
    assert other.worth(study.trials[-1]) is None and study.worth(study.trials[-1]) == 0.2
    assert "worst-fold dice, percent" in report_page([other])


def test_what_racing_saved_is_what_stopped_trials_lack_less_what_was_cut(study: StudyFacts):
    assert (study.num_fits, study.num_saved) == (41, 4)
    assert study.hours_saved == pytest.approx(4 / 60)
    cut = replace(study.trials[-1], cut=(FitFacts(1, None, 30.0, None, 1, CURVE[:2]),))
    assert replace(study, trials=(*study.trials[:-1], cut)).hours_saved == pytest.approx(3.5 / 60)
    assert "45 fits; 41 were trained to the end" in " ".join(report_page([study]).split())


def test_the_parameter_that_decides_is_the_important_one(study: StudyFacts):
    found = importances(study)
    assert next(iter(found)) == "learning_rate" and sum(found.values()) == pytest.approx(1)
    assert importances(replace(study, trials=study.trials[:3])) == {}


def test_importance_goes_by_parameters_that_all_trials_have(study: StudyFacts):
    first = replace(study.trials[0], searched=study.trials[0].searched | {"width": 3})
    assert set(importances(replace(study, trials=(first, *study.trials[1:])))) == {
        "learning_rate",
        "optimizer",
    }


def test_a_parameter_that_some_trials_lack_has_its_importance_among_those_that_have_it(study: StudyFacts):
    complete = [one for one in study.trials if one.objective is not None]
    trials = tuple(
        replace(
            one,
            searched=one.searched | ({"width": k} if k < FEWEST else {}) | ({"depth": k} if k < 2 else {}),
        )
        for k, one in enumerate(complete)
    )
    several = replace(study, trials=trials)
    share, count = conditional_importances(several)["width"]
    assert 0 < share < 1 and count == FEWEST and set(importances(several)) == {"learning_rate", "optimizer"}
    assert without_importance(several) == ["depth"]
    (shown,) = (one for one in search_pictures(several) if one.name == "importance")
    assert "several values of it: depth." in shown.caption and f"width ({FEWEST} trials)" in shown.svg


def test_calibration_of_probabilities_that_are_shares_is_near_zero():
    assert calibration_error(champion()) < 0.01
    upside_down = replace(champion(), histograms=champion().histograms[::-1])
    assert calibration_error(upside_down) > 0.3


def test_tables_have_the_columns_of_papers(study: StudyFacts):
    table = rows([study], frozenset({("one", "Far (unseen)")}))
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
        table[2][:5] == ["unet (one)", "Far (unseen)", "90", "0.6100*", "0.5000"] and table[2][-1] == "31.00"
    )
    assert r"\toprule" in latex(table) and "95 \\% of DSC" in latex(table)
    assert as_csv(table).count("\n") == 3 and markdown_table(table).count("|\n") == 4


def test_images_for_one_point_grow_with_the_square_of_the_interval():
    line = ScoreLine("x", 100, {}, (0.78, 0.82), 10)
    assert images_for_one_point(line) == 400
    assert images_for_one_point(replace(line, interval=None)) is None


def test_energy_is_hours_times_the_power_of_the_device(study: StudyFacts):
    kwh, how = energy(study)
    assert kwh == pytest.approx(41 / 60 * 0.3) and "300 W" in how


@pytest.mark.parametrize(
    ("device", "watts"), [("NVIDIA L40S", 350), ("NVIDIA L4", 72), ("NVIDIA A100-SXM4-80GB", 400)]
)
def test_the_power_of_a_device_is_its_own(study: StudyFacts, device: str, watts: int):
    assert energy(replace(study, costs=(replace(V100, device=device),)))[0] == pytest.approx(
        41 / 60 * watts / 1000
    )


def test_energy_of_a_device_of_unknown_power_is_not_estimated(study: StudyFacts):
    sentence = cost_sentence(replace(study, costs=(V100, replace(V100, device="Quadro 9000"))))
    assert "Energy is not estimated: the power of Quadro 9000 is not known" in sentence


def test_the_flow_of_images_adds_up(study: StudyFacts):
    near, far = (dict(flow(one)) for one in study.datasets)
    assert (
        near["pairs of image and mask found"] + near["left out at import: no mask"]
        == near["images of the dataset"]
    )
    assert near["images of the dataset"] + near["held out for the test"] == near["divided into folds"] == 40
    assert far["to be scored once, after the search"] == 87


def test_methods_say_what_was_done(study: StudyFacts):
    text = methods(study)
    for fact in (
        "44 images",
        "five-fold-seed3",
        "9 configurations",
        "8 were trained",
        "1 was stopped",
        "41 fits",
        "Far",
    ):
        assert fact in text


def test_the_time_of_fits_in_the_methods_is_that_of_the_fits_that_they_count(study: StudyFacts):
    refit = CostFacts("refit", V100.device, True, 1, 5.0, 5.0)
    assert methods(replace(study, costs=(*study.costs, refit))) == methods(study)


@pytest.mark.parametrize("name", sorted(CHECKLISTS))
def test_a_checklist_is_numbered_and_leaves_to_people_what_they_alone_know(name, study: StudyFacts):
    found = filled(name, study)
    assert [answer.number for answer in found] == [str(k) for k in range(1, len(found) + 1)]
    assert counts(found)["for you to write"] and markdown(name, study).count("\n|") == len(found) + 2


def test_three_fifths_of_claim_are_filled_by_machine(study: StudyFacts):
    card = dict.fromkeys(FIELDS, "stated")
    described = replace(study, datasets=tuple(replace(one, card=card) for one in study.datasets))
    number = counts(filled("claim", described))
    assert sum(number.values()) == 44 and number["filled"] >= 0.6 * 44


def test_nothing_is_said_not_to_apply_but_what_the_study_was_not_given(study: StudyFacts):
    assert all(counts(filled(name, study))["does not apply"] == 0 for name in CHECKLISTS)
    alone = replace(study, datasets=study.datasets[:1])
    (answer,) = (one for one in filled("claim", alone) if one.state == "does not apply")
    assert answer.number == "33" and answer.text == "Does not apply: the study was given no external dataset."


def test_what_the_owners_of_all_datasets_state_is_an_answer(study: StudyFacts):
    near, far = (replace(one, card={"annotators": f"two readers of {one.name}"}) for one in study.datasets)
    item = {one.number: one for one in filled("claim", replace(study, datasets=(near, far)))}["16"]
    assert item.text == "near: two readers of near; Far: two readers of Far" and item.state == "filled"
    half = {one.number: one for one in filled("claim", replace(study, datasets=(near, *study.datasets[1:])))}[
        "16"
    ]
    assert half.state == "for you to write"


def test_a_study_without_a_champion_fills_no_item_on_one(study: StudyFacts):
    state = {
        one.number: one.state
        for one in filled("claim", replace(study, champion=None, initial=None, selection=()))
    }
    assert {state[n] for n in ("9", "21", "24", "25", "26", "27", "30", "32", "37", "38", "39")} == {
        "for you to write"
    }
