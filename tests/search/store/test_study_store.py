import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from formula import SPACE, formula_study, histograms
from split_plans import five_fold

from orchestrator.common.errors import BadStudy
from orchestrator.data.splits.plan import make_plan
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.space.space_file import parse_space
from orchestrator.search.store.study_store import StudyStore, find_study
from orchestrator.search.store.trials import StudyTrial, champion_fit, ranked
from orchestrator.study.run import begin
from orchestrator.training.recipe import FitSpec

SETTINGS = SPACE.configuration(
    {"network": "unet", "learning_rate": 1e-3, "batch_size": 2, "epochs": 3, "image_size": 32}
)


def record(fold: int, found: float) -> FitRecord:
    """A fold of two cases whose networks find a share of each polyp."""
    cases = (f"drawn/{fold}-a", f"drawn/{fold}-b")
    spec = FitSpec(
        network="unet", recipe=SETTINGS.recipe, datasets={}, train=("drawn/x",), val=cases, fold=str(fold)
    )
    made = FitRecord(
        fit_id=f"fit-{fold}",
        spec=spec,
        folder=Path(),
        curves=(),
        best_epoch=0,
        seconds=1.0,
        device="formula",
        world_size=1,
        case_ids=cases,
        versions={},
    )
    vars(made)["histograms"] = histograms(found, 2)  # as if they had been read
    return made


def trial(number: int, *shares: float, num_folds: int | None = None) -> StudyTrial:
    """A trial whose folds find these shares of the polyps."""
    return StudyTrial(
        number=number,
        state="complete",
        searched={},
        params={},
        configuration=SETTINGS,
        records=tuple(record(fold, share) for fold, share in enumerate(shares)),
        num_folds=num_folds or len(shares),
        error=None,
    )


def test_the_fold_of_median_dice_stands_for_a_trial():
    assert champion_fit(trial(0, 0.9, 0.1, 0.5, 0.7, 0.3)).fit_id == "fit-2"


def test_of_an_even_number_of_folds_the_lower_one_in_the_middle_stands_for_a_trial():
    assert champion_fit(trial(0, 0.9, 0.1, 0.5, 0.7)).fit_id == "fit-2"


def test_an_unfinished_trial_has_no_champion_and_no_rank():
    unfinished = trial(0, 0.9, 0.8, num_folds=5)
    with pytest.raises(BadStudy, match="trial 0: has 2 of 5 folds finished"):
        champion_fit(unfinished)
    assert ranked([unfinished]) == []


def test_the_best_trial_ranks_first_and_a_tie_goes_to_the_earlier_one():
    trials = [trial(0, 0.5, 0.5), trial(1, 0.7, 0.7), trial(2, 0.7, 0.7)]
    assert [ranked_trial.number for ranked_trial, _ in ranked(trials)] == [1, 2, 0]


def test_a_score_is_the_mean_over_all_images():
    score = trial(0, 0.4, 0.8).score()
    by_hand = np.mean([2 * share / (1 + share) for share in (0.4, 0.8)])
    assert score.metrics["dice"] == pytest.approx(by_hand)
    assert score.case_ids == ("drawn/0-a", "drawn/0-b", "drawn/1-a", "drawn/1-b")


@pytest.fixture
def study(tmp_path) -> StudyStore:
    """A study whose journal knows one trial."""
    study = StudyStore(tmp_path, "killed")
    study.folder.mkdir(parents=True)
    study.optuna_study().ask()
    return study


def test_a_journal_line_that_was_half_written_is_cut_off(study):
    with study.journal_file.open("a") as journal:
        journal.write('{"op_code": 4, "wor')
    study.repair()
    study.optuna_study().ask()
    assert len(study.optuna_study().trials) == 2


def test_a_journal_lock_that_outlived_its_process_is_not_waited_for(study):
    Path(f"{study.journal_file}.lock").symlink_to(study.journal_file)
    study.repair()
    started = time.monotonic()
    study.optuna_study().ask()
    assert time.monotonic() - started < 20  # Optuna itself would wait for thirty seconds


def test_a_study_is_held_by_one_at_a_time(study):
    with study.lock(), pytest.raises(BadStudy, match="is being worked on by another process"):
        study.lock()
    with study.lock():
        pass


def test_a_study_that_another_process_has_just_begun_is_not_begun_again(tmp_path):
    made = formula_study(tmp_path, num_trials=1)
    begin(made)
    before = made.store.record()
    with made.store.lock(), pytest.raises(BadStudy, match="is being worked on"):
        begin(made.with_options(seed=7))
    assert made.store.record() == before


def test_a_trial_that_was_killed_while_it_drew_its_parameters_breaks_no_table(tmp_path):
    made = formula_study(tmp_path, num_trials=1)
    begin(made)
    assert made.store.trials() == [] and not made.store.journal_file.exists()  # who reads makes nothing
    made.store.optuna_study().ask()
    assert made.store.trials() == []


def test_a_study_of_another_space_says_which_keys_are_others(tmp_path):
    made = formula_study(tmp_path, num_trials=1)
    begin(made)
    text = SPACE.text.replace("epochs = 3", "epochs = 4").replace("1e-5, 1e-1", "1e-5, 1e-2")
    with pytest.raises(BadStudy) as error:
        begin(replace(made, space=parse_space(text)))
    assert len(error.value.problems) == 2  # advice is none
    assert error.value.problems[1].startswith(
        "space, fixed.epochs: was 3, now 4; a study cannot change what it"
    )
    was, now = '{"log_uniform": [1e-05, 0.1]}', '{"log_uniform": [1e-05, 0.01]}'
    assert f"space, search.learning_rate: was {was}, now {now}" in error.value.problems
    assert not any("batch_size" in one for one in error.value.problems)


def test_a_study_of_another_split_says_what_it_was_and_how_to_go_on(tmp_path):
    made = formula_study(tmp_path, num_trials=1)
    made.store.begin(SPACE, made.plan)
    ids = [case.id for case in made.datasets[0].cases]
    anew = five_fold(made.datasets, seed=0, near_duplicates=[(ids[0], ids[1])])
    with pytest.raises(BadStudy, match=r"without looking for near-duplicates.*now with 1 pairs") as error:
        made.store.begin(SPACE, anew)
    assert f"--splits {made.store.splits_file} continues the study as it was begun" in str(error.value)
    assert "--study" in str(error.value)
    made.store.begin(SPACE, make_plan(str(made.store.splits_file), made.datasets, seed=0), 0)


def test_a_study_name_is_a_plain_word(tmp_path):
    with pytest.raises(BadStudy, match="needs letters, digits"):
        StudyStore(tmp_path, "../elsewhere")


def test_an_unknown_study_is_refused_with_those_that_are_known(tmp_path):
    with pytest.raises(BadStudy, match="no study is named 'missing'; known: none yet"):
        find_study(tmp_path, "missing")


def test_files_that_were_never_put_in_place_are_cleared_away(tmp_path):
    begun = formula_study(tmp_path, num_trials=1)
    study = begun.store
    study.begin(begun.space, begun.plan, begun.spec)
    half = [study.ledger.fits / ".abc.7.partial", study.ledger.checkpoints("abc")]
    for folder in half:
        folder.mkdir(parents=True)
    (half[0] / "record.json").write_text("{")
    (half[1] / ".checkpoint.7.partial").write_text("half")
    (half[1] / "checkpoint.pt").write_text("whole")
    (study.folder / "tune" / "earlier").mkdir(parents=True)
    study.repair()
    assert not list(study.folder.rglob("*.partial")) and not (study.folder / "tune").exists()
    assert (half[1] / "checkpoint.pt").exists() and study.exists()
