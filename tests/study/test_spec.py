"""The specification: one value that is given, kept in `study.json`, compared on resume and named key by key."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from formula import formula_study
from split_plans import five_fold

from orchestrator.common.errors import BadStudy, UserError
from orchestrator.data.splits.plan import make_plan
from orchestrator.search.store.study_record import specification
from orchestrator.search.study_spec import StudySpec, spec_fields


def test_a_specification_is_kept_as_it_was_given(tmp_path):
    spec = specification({"trials": 3, "constraints": ["parameters <= 5e6"], "objectives": ["mean", "gmacs"]})
    study = formula_study(tmp_path)
    study.store.begin(study.space, study.plan, spec)
    assert study.store.spec == spec
    assert (spec.constraints, spec.objective, spec.rescore) == (("parameters<=5e+06",), "mean", 3)


def test_options_that_may_change_are_kept_as_they_were_given_last(tmp_path):
    study = formula_study(tmp_path, num_trials=3)
    study.store.begin(study.space, study.plan, study.spec)
    study.store.begin(study.space, study.plan, replace(study.spec, trials=9, race="asha", nested=None))
    assert (study.store.spec.trials, study.store.spec.race) == (9, "asha")
    assert json.loads(study.store.manifest_copy.read_text())["trials"] == 9


def test_options_that_may_not_change_are_named_one_by_one(tmp_path):
    study = formula_study(tmp_path, num_trials=3)
    study.store.begin(study.space, study.plan, study.spec)
    changed = replace(study.spec, seed=4, constraints=("gmacs<=3",), objectives=("mean", "gmacs"))
    with pytest.raises(BadStudy) as refused:
        study.store.begin(study.space, study.plan, changed)
    *first, last = refused.value.problems
    assert first == ["objectives: was mean, now mean, gmacs", "constraints: was none, now gmacs<=3"]
    assert last.startswith("seed: was 0, now 4; ") and "--study" in last


@pytest.mark.parametrize(
    "splits, seed, said",
    [
        ("k-fold:3", 0, "splits: was five-fold, 5 folds, now 3-fold, 3 folds"),
        ("five-fold", 1, "splits: was seed 0, 3 cases held out, now seed 1, 2 cases held out"),
    ],
)
def test_a_split_is_told_from_another_in_words(tmp_path, splits: str, seed: int, said: str):
    study = formula_study(tmp_path)
    study.store.begin(study.space, study.plan)
    with pytest.raises(BadStudy) as refused:
        study.store.begin(study.space, make_plan(splits, study.datasets, seed=seed, holdout=0.1))
    assert said in str(refused.value)
    assert study.plan.digest not in str(refused.value)


def test_a_split_of_the_same_kind_says_in_how_many_folds_its_cases_are_others(tmp_path):
    study = formula_study(tmp_path)
    study.store.begin(study.space, study.plan)
    first, *others = five_fold(study.datasets, seed=0).folds
    moved = replace(first, val=first.val[1:], train=tuple(sorted((*first.train, first.val[0]))))
    with pytest.raises(BadStudy, match="other cases in 1 of 5 folds"):
        study.store.begin(study.space, replace(study.plan, folds=(moved, *others)))


def test_data_that_was_imported_again_is_named_without_hashes(tmp_path):
    study = formula_study(tmp_path)
    study.store.begin(study.space, study.plan)
    with pytest.raises(BadStudy, match="datasets: drawn holds other images, masks or groups") as refused:
        study.store.begin(study.space, replace(study.plan, datasets={"drawn": "0" * 16}))
    assert "0" * 16 not in str(refused.value)


def test_a_study_of_an_earlier_version_is_read_under_its_old_keys(tmp_path):
    study = formula_study(tmp_path)
    study.store.begin(study.space, study.plan)
    stored = json.loads(study.store.manifest_file.read_text())
    made_of = {
        key: stored[key] for key in ("id", "space", "splits", "datasets", "unseen", "seed", "fit_version")
    }
    then = made_of | {"objective": "worst-fold", "beside": ["gmacs"], "constraints": ["gmacs<=5"]}
    study.store.manifest_file.write_text(json.dumps(then))
    kept = StudySpec(objectives=("worst-fold", "gmacs"), constraints=("gmacs<=5",))
    assert study.store.spec == kept
    study.store.begin(study.space, study.plan, kept)
    with pytest.raises(BadStudy, match="objectives: was worst-fold, gmacs, now mean"):
        study.store.begin(study.space, study.plan)


def test_every_wrong_option_is_named_in_one_go():
    wrong = {
        "trails": 4,
        "hours": -1,
        "constraints": ["cost<=1"],
        "objectives": ["best"],
        "storage": "nowhere",
    }
    with pytest.raises(UserError) as refused:
        specification(wrong)
    said = str(refused.value)
    for words in ("did you mean trials?", "hours: ", "a limit of one of", "found best", "--storage"):
        assert words in said


def test_every_field_has_a_help_text_and_says_whether_it_may_change():
    fixed = {one.name for one in spec_fields() if one.option.is_fixed}
    assert fixed == {"objectives", "constraints", "warm_start", "storage", "seed"}
    assert all(one.option.help.endswith(".") for one in spec_fields())
