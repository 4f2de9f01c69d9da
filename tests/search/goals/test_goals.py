"""Several objectives: what they are worth, the Pareto front, what goes with them, and that a study resumes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from formula import carry_out, formula_study, quality
from optuna.study import StudyDirection
from optuna.trial import TrialState
from visits import DiskStudy

from orchestrator.common.errors import BadStudy
from orchestrator.ray_cluster.machine import Machine
from orchestrator.results.views.study_scores import board, front_lines
from orchestrator.results.views.tables import leaderboard_dicts
from orchestrator.search.goals.goals import SecondaryGoals, front, primary_and_secondary, secondary_goals
from orchestrator.search.goals.model_cost import Cost
from orchestrator.search.space.space_file import parse_space
from orchestrator.search.study_spec import StudySpec
from orchestrator.selection.ranking import select_trial
from orchestrator.study.checks import check
from orchestrator.study.runnable_study import RunnableStudy

UNET = """
network = "unet"
[fixed]
base_channels = {channels}
image_size = 64
tta = "{tta}"
[search]
learning_rate = {{ log_uniform = [1e-5, 1e-1] }}
[baseline]
learning_rate = 1e-4
"""


def configuration(channels: int = 64, tta: str = "none"):
    space = parse_space(UNET.format(channels=channels, tta=tta))
    return space.configuration(space.baseline_params())


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A home with drawn frames in it."""
    home = tmp_path_factory.mktemp("home")
    formula_study(home, num_trials=1)
    return home


@pytest.fixture
def study(tmp_path) -> RunnableStudy:
    return formula_study(tmp_path, num_trials=3).with_options(
        objectives=("mean", "worst-fold", "inference_ms"), sampler="tpe"
    )


def test_the_front_is_whom_no_other_beats_in_everything():
    values = {0: (0.8, 10.0), 1: (0.9, 20.0), 2: (0.8, 12.0), 3: (0.7, 10.0), 4: (0.9, 20.0)}
    assert front(values, ["maximize", "minimize"]) == (0, 1, 4)
    assert front(values, ["maximize", "maximize"]) == (1, 4)
    assert front({}, ["maximize", "minimize"]) == ()


def test_costs_are_counted_without_training():
    assert Cost("parameters")(configuration()) == 31_037_633
    gmacs = Cost("gmacs")(configuration())
    assert gmacs == pytest.approx(3.0, rel=0.2)
    assert Cost("gmacs")(configuration(tta="flips")) == pytest.approx(4 * gmacs)
    assert Cost("parameters")(configuration(8)) < Cost("parameters")(configuration(16))


def test_the_time_of_an_inference_is_the_median_of_those_measured():
    assert Cost("inference_ms")(configuration(), [3.0, 9.0, None, 4.0]) == 4.0
    assert Cost("inference_ms")(configuration(), [None]) is None
    assert (
        SecondaryGoals((Cost("inference_ms"),)).is_measured
        and not SecondaryGoals((Cost("gmacs"),)).is_measured
    )


def test_scores_are_maximised_and_costs_minimised():
    secondary = secondary_goals(["worst-fold", "gmacs"], [])
    assert secondary.directions == ["maximize", "maximize", "minimize"]


def test_the_first_objective_is_a_score():
    assert primary_and_secondary(["worst-fold", "gmacs", "mean"]) == ("worst-fold", ("gmacs", "mean"))
    with pytest.raises(BadStudy, match=r"the first one decides the champion, .* found gmacs") as refusal:
        primary_and_secondary(["gmacs", "beauty"])
    assert "expected one of mean, worst-fold" in str(refusal.value) and "beauty" in str(refusal.value)


def test_what_does_not_go_with_several_objectives_is_said_at_once(study):
    check(study, Machine())
    wrong = study.with_options(
        race="paired", sampler="surrogate", objectives=("mean", "mean"), trials=None, until_unlikely=True
    )
    with pytest.raises(BadStudy) as refusal:
        check(wrong, Machine())
    told = "\n".join(refusal.value.problems)
    assert len(refusal.value.problems) == 4
    for words in (
        "each can be given once",
        "these are: tpe, gp, random",
        "use --race none",
        "another budget",
    ):
        assert words in told
    with pytest.raises(BadStudy, match=r"nsga2 is now spelled 'optuna:NSGAIISampler\(population_size=20\)'"):
        check(study.with_options(sampler="nsga2"), Machine())
    with pytest.raises(BadStudy, match="worst-center needs the center of every image"):
        check(study.with_options(objectives=("mean", "worst-center")), Machine())


@pytest.mark.parametrize(
    "sampler", [pytest.param("optuna:NSGAIISampler(population_size=2)", marks=pytest.mark.slow), "tpe"]
)
def test_killed_after_every_visit_it_is_the_study_that_nothing_disturbed(template, tmp_path, sampler):
    kind = {"num_trials": 5, "sampler": sampler, "secondary": ("worst-fold", "inference_ms")}
    whole = DiskStudy(template, tmp_path / "a", **kind)
    visits = whole.run()
    parts: list[dict] = []
    while step := DiskStudy(template, tmp_path / "b", **kind).run(1):
        parts += step
    assert parts == visits
    stored = DiskStudy(template, tmp_path / "b", **kind).trials
    assert [(t.state, t.params, t.values) for t in stored] == [
        (t.state, t.params, t.values) for t in whole.trials
    ]
    assert {t.state for t in stored} == {TrialState.COMPLETE}
    for trial in stored:
        found = quality(rate := trial.params["learning_rate"])
        assert trial.values == pytest.approx([2 * found / (1 + found)] * 2 + [-math.log10(rate)], abs=0.01)


def test_a_study_knows_its_objectives_and_shows_its_front(study):
    store = study.store
    carry_out(study, [1e-4, 1e-3, 1e-2])
    assert store.optuna_study().directions == [StudyDirection.MAXIMIZE] * 2 + [StudyDirection.MINIMIZE]
    assert store.front() == (1, 2)
    rows = leaderboard_dicts(board(store.snapshot()))
    assert {row["trial"]: row["on_front"] for row in rows} == {0: False, 1: True, 2: True}
    assert rows[0]["trial"] == 1 and rows[0]["secondary"]["inference_ms"] == pytest.approx(3)
    assert len(front_lines(store.snapshot())) == 3 and "inference_ms" in front_lines(store.snapshot())[1]
    standing = store.ranked()
    assert select_trial(store.snapshot(), standing).chosen == 1
    asked = select_trial(store.snapshot(), standing, trial_number=2)
    assert (asked.chosen, asked.winner) == (2, 1) and asked.reason.startswith("Trial 2 was asked for.")
    with pytest.raises(BadStudy, match="objectives: was mean, worst-fold, inference_ms, now mean, gmacs"):
        store.begin(study.space, study.plan, StudySpec(objectives=("mean", "gmacs")))


def test_one_objective_has_no_front(tmp_path):
    study = formula_study(tmp_path, num_trials=1)
    carry_out(study, [1e-3])
    assert study.store.front() == () and front_lines(study.store.snapshot()) == []
    assert leaderboard_dicts(board(study.store.snapshot()))[0]["on_front"] is None
