"""Two systems on the same images: differences, how sure they are, and what cannot be compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from formula import formula_study

from orchestrator.common.errors import BadStudy
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.results.views.plots import difference_plot
from orchestrator.results.views.tables import comparison_dicts
from orchestrator.selection.comparison import VALIDATION, ComparedSystem, compare, compared_system, verdict


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> SplitPlan:
    return formula_study(tmp_path_factory.mktemp("home"), num_trials=1).plan


def system(plan: SplitPlan, name: str, shift: float, *, seed: int = 0, noise: float = 0.02) -> ComparedSystem:
    """Scores around 0.7 that all systems share, plus a shift and some noise of its own."""
    case_ids = sorted(case_id for fold in plan.folds for case_id in fold.val)
    common = np.random.default_rng(99).uniform(0.5, 0.8, len(case_ids))
    own = np.random.default_rng(seed).normal(shift, noise, len(case_ids))
    scores = dict(zip(case_ids, (common + own).tolist(), strict=True))
    means = tuple(float(np.mean([scores[id] for id in fold.val])) for fold in plan.folds)
    return ComparedSystem(name, plan, {VALIDATION: scores}, means, {id: id for id in case_ids})


def test_a_system_that_is_better_everywhere_is_said_to_be_with_its_difference(plan: SplitPlan):
    (row,) = compare([system(plan, "a:0", 0), system(plan, "b:0", 0.1, seed=1)])
    low, high = row.interval
    assert low < row.difference < high and low > 0
    assert row.difference == pytest.approx(0.1, abs=0.02)
    assert row.p_images < 0.001 and row.p_folds is not None and row.p_folds < 0.05
    assert verdict(row, "dice").startswith("validation: b:0 is better than a:0 by")


def test_the_order_of_the_two_only_turns_the_sign(plan: SplitPlan):
    a, b = system(plan, "a:0", 0), system(plan, "b:0", 0.1, seed=1)
    (forth,), (back,) = compare([a, b]), compare([b, a])
    assert back.difference == pytest.approx(-forth.difference)
    assert back.p_images == pytest.approx(forth.p_images)
    assert "b:0 is better than a:0" in verdict(back, "dice")


def test_systems_that_differ_by_noise_alone_do_not_differ_significantly(plan: SplitPlan):
    (row,) = compare([system(plan, "a:0", 0), system(plan, "b:0", 0, seed=1)])
    assert not row.is_sure
    assert "do not differ significantly" in verdict(row, "dice")
    unknown = replace(row, interval=(-np.inf, np.inf))
    assert "interval unknown, p " in verdict(unknown, "dice") and "inf" not in verdict(unknown, "dice")


def test_ranks_that_point_the_other_way_than_the_mean_do_not_agree(plan: SplitPlan):
    a = system(plan, "a:0", 0)
    ours = a.scores[VALIDATION]
    shifted = {id: score + (0.4 if place < 2 else -0.01) for place, (id, score) in enumerate(ours.items())}
    (row,) = compare([a, replace(a, name="b:0", scores={VALIDATION: shifted})])
    assert row.difference > 0.01 and row.p_images == 1


def test_more_comparisons_make_each_of_them_less_sure(plan: SplitPlan):
    a, b = system(plan, "a:0", 0), system(plan, "b:0", 0.012, seed=1)
    others = [system(plan, f"c:{number}", 0, seed=number) for number in range(2, 6)]
    (alone,) = compare([a, b])
    assert compare([a, b, *others])[0].p_images > alone.p_images


def test_the_folds_are_compared_only_where_they_are_the_same(plan: SplitPlan):
    a, b = system(plan, "a:0", 0), system(plan, "b:0", 0.1, seed=1)
    (row,) = compare([a, replace(b, plan=replace(plan, seed=plan.seed + 1))])
    assert row.p_folds is None
    assert row.num_cases == len(a.scores[VALIDATION])


def test_what_either_system_keeps_together_is_drawn_together(plan: SplitPlan):
    a, b = system(plan, "a:0", 0), system(plan, "b:0", 0.1, seed=1)
    ids = sorted(a.group_of)
    knows = a.group_of | {ids[1]: ids[0]}
    knows_others = b.group_of | {ids[1]: "x", ids[2]: "x"}
    pair = [replace(a, group_of=knows), replace(b, group_of=knows_others)]
    (row,), (turned,) = compare(pair), compare(pair[::-1])
    assert row.num_groups == turned.num_groups == len(ids) - 2


def test_only_images_that_both_were_scored_on_count(plan: SplitPlan):
    a, b = system(plan, "a:0", 0), system(plan, "b:0", 0.1, seed=1)
    half = dict(list(b.scores[VALIDATION].items())[::2])
    (row,) = compare([a, replace(b, scores={VALIDATION: half}, plan=replace(plan, seed=7))])
    assert row.num_cases == len(half)


def test_one_system_or_the_same_twice_is_no_comparison(plan: SplitPlan):
    a = system(plan, "a:0", 0)
    for systems in ([a], [a, a]):
        with pytest.raises(BadStudy, match="two or more different systems"):
            compare(systems)


def test_systems_without_a_common_image_are_refused(plan: SplitPlan):
    a = system(plan, "a:0", 0)
    b = replace(a, name="b:0", scores={"far": {"far/1": 0.5}})
    with pytest.raises(BadStudy, match="not scored on any image in common"):
        compare([a, b])


def test_rows_become_plain_values_and_a_plot(plan: SplitPlan):
    rows = compare([system(plan, "a:0", 0), system(plan, "b:0", 0.1, seed=1)])
    (plain,) = comparison_dicts(rows)
    assert plain["is_sure"] and plain["other"] == "b:0" and len(plain["interval"]) == 2
    assert difference_plot(rows, "dice")[:4] == b"\x89PNG"


def test_a_study_without_a_finished_trial_is_refused(tmp_path: Path):
    study = formula_study(tmp_path, num_trials=1)
    study.store.begin(study.space, study.plan, study.spec)
    with pytest.raises(BadStudy, match="no finished trial"):
        compared_system(study.store.snapshot(), "", "dice")
    with pytest.raises(BadStudy, match="no trial '7'"):
        compared_system(study.store.snapshot(), "7", "dice")
