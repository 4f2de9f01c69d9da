"""Earlier studies by name, from a home and from MLflow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from formula import carry_out, formula_study
from mlflow.entities import Dataset, DatasetInput
from split_plans import five_fold

from orchestrator.common.errors import BadMachine, BadStudy
from orchestrator.data.cases import Dataset as Cases
from orchestrator.data.cases import load_dataset
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.results.mlflow.client import connect
from orchestrator.results.mlflow.earlier_studies import earlier_configurations
from orchestrator.search.store.study_store import StudyStore

SCORES = {"0": 0.6, "1": 0.9, "2": 0.7, "3": 0.88, "4": 0.5, "5": 0.87, "6": None}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A home with a study, and beside it an experiment whose champion is trial 1, like trial 5."""
    home = tmp_path_factory.mktemp("home")
    carry_out(formula_study(home, num_trials=2), [1e-4, 1e-3])
    client = connect(f"sqlite:///{home}/mlflow.db")
    client.create_experiment("empty")
    experiment = client.create_experiment("elsewhere")
    digest = formula_study(home, num_trials=1).plan.digest
    for trial, dice in SCORES.items():
        tags = {"role": "trial", "trial": trial, "split_digest": digest}
        if trial == "1":
            tags |= {"champion": "true", "not_told_from_winner": "5"}
        run = client.create_run(experiment, tags=tags)
        client.log_param(run.info.run_id, "learning_rate", f"{1e-3 * (1 + int(trial))}")
        used = Dataset("drawn", "digest", "code", "code")
        client.log_inputs(run.info.run_id, [DatasetInput(used)])
        if dice is not None:
            client.log_metric(run.info.run_id, "dice", dice)
    return home


def asked(home: Path) -> tuple[str, SplitPlan, tuple[str, ...]]:
    """Of what a study on the same split begins."""
    plan = formula_study(home, num_trials=1).plan
    return f"sqlite:///{home}/mlflow.db", plan, plan.test


def test_studies_of_this_home_and_experiments_are_found_by_name(home):
    found = earlier_configurations(home, ["formula", "elsewhere"], *asked(home))
    assert [one.source for one in found] == [
        "trial 1 of formula",
        "trial 0 of formula",
        *(f"trial {number} of elsewhere in MLflow" for number in (1, 5, 3, 2, 0)),
    ]
    assert found[0].params["learning_rate"] == 1e-3
    assert found[2].params == {"learning_rate": "0.002"}


def test_of_studies_of_one_name_the_newest_with_a_champion_is_asked(home):
    client = connect(f"sqlite:///{home}/mlflow.db")
    experiment = client.create_experiment("shared")
    for at, (study_id, champion) in enumerate((("old", "true"), ("new", "true"), ("begun", "false")), 1):
        for trial in ("0", "1"):
            tags = {"role": "trial", "trial": trial, "study_id": study_id}
            if trial == "1":
                tags["champion"] = champion
            run = client.create_run(experiment, start_time=at, tags=tags)
            client.log_param(run.info.run_id, "learning_rate", f"{study_id} {trial}")
            client.log_metric(run.info.run_id, "dice", 0.9)
    found = earlier_configurations(home, ["shared"], *asked(home))
    assert [one.params["learning_rate"] for one in found] == ["new 1", "new 0"]


def test_names_that_stand_for_nothing_are_said_at_once(home):
    with pytest.raises(BadStudy) as refusal:
        earlier_configurations(home, ["nowhere", "empty", "formula"], *asked(home))
    assert len(refusal.value.problems) == 2
    assert "is named 'nowhere'" in str(refusal.value) and "empty has no finished trial" in str(refusal.value)


def test_a_server_that_cannot_be_asked_is_said_so(home):
    with pytest.raises(BadMachine, match="expected a server"):
        earlier_configurations(home, ["nowhere"], "here", *asked(home)[1:])


def test_what_was_chosen_by_images_that_are_held_out_now_is_refused(home):
    other = five_fold(formula_study(home, num_trials=1).datasets, seed=1)
    assert set(other.test) != set(asked(home)[1].test)
    with pytest.raises(BadStudy) as refusal:
        earlier_configurations(home, ["formula", "elsewhere"], asked(home)[0], other, other.test)
    ours, theirs = refusal.value.problems
    assert "formula was chosen by" in ours and "images that this study holds out" in ours
    assert "elsewhere in MLflow was chosen on drawn with another split" in theirs
    assert earlier_configurations(home, ["elsewhere"], asked(home)[0], other, [])  # nothing is held out


@pytest.fixture(scope="module")
def others(home) -> tuple[Cases, Cases]:
    """The frames of the home's study under another name, and frames of their own."""
    add_dataset(home, "renamed", load_dataset(home, "drawn").folder, allow_empty=True)
    draw_dataset(home / "source-far", num_cases=24, size=32, seed=9)
    return load_dataset(home, "renamed"), add_dataset(home, "far", home / "source-far", allow_empty=True)


def refusal(home: Path, name: str, plan: SplitPlan, unseen: Cases) -> str:
    with pytest.raises(BadStudy) as refused:
        earlier_configurations(home, [name], asked(home)[0], plan, [case.id for case in unseen.cases])
    return str(refused.value)


def test_images_are_known_again_under_another_name(home, others):
    renamed, far = others
    plan = five_fold([far], seed=0, unseen=[renamed])
    assert "formula was chosen by" in refusal(home, "formula", plan, renamed)
    client = connect(asked(home)[0])
    run = client.create_run(client.create_experiment("same"), tags={"role": "trial", "trial": "0"})
    client.log_metric(run.info.run_id, "dice", 0.5)
    used = Dataset("drawn", renamed.fingerprint, "code", "code")
    client.log_inputs(run.info.run_id, [DatasetInput(used)])
    assert "same in MLflow was chosen on drawn" in refusal(home, "same", plan, renamed)


def test_what_an_earlier_study_began_with_counts_too(home, others):
    renamed, far = others
    plan = five_fold([far], seed=0, unseen=[renamed])
    own = five_fold([far], seed=0)
    for name, before in (("second", "formula"), ("third", "second"), ("orphan", "gone")):
        study = replace(
            formula_study(home, num_trials=1), store=StudyStore(home, name), plan=own, datasets=(far,)
        )
        spec = replace(study.spec, warm_start=(before,))
        study.store.begin(study.space, own, spec, [{"learning_rate": 1e-3}])
        carry_out(study, [1e-4])
    assert "third began with configurations of formula: formula was chosen by" in refusal(
        home, "third", plan, renamed
    )
    assert "orphan began with configurations of gone: no study" in refusal(home, "orphan", plan, renamed)
    assert earlier_configurations(home, ["third", "orphan"], asked(home)[0], own, [])  # nothing is held out
