"""What earlier studies recommend: who comes first, what fits, and that it is asked for once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from formula import carry_out, formula_study
from visits import DiskStudy

from orchestrator.common.errors import BadStudy
from orchestrator.search.goals.constraints import limits_of
from orchestrator.search.goals.goals import SecondaryGoals
from orchestrator.search.space.space_file import parse_space
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.study_spec import StudySpec
from orchestrator.selection.warm_start import Earlier, best_of_study, fit_in

SPACE = parse_space("""
network = { choice = ["unet", "gmsrf_net"] }
[search]
learning_rate = { log_uniform = [1e-5, 1e-1] }
batch_size    = { int = [2, 16], step = 2 }
clip_norm     = { uniform = [0.5, 2.0] }
growth_rate   = { choice = [8, 16, 32], when = { network = "gmsrf_net" } }
[fixed]
image_size = 64
[baseline]
network = "unet"
learning_rate = 1e-4
batch_size = 8
clip_norm = 1.0
""")
BEGINNINGS = ({"learning_rate": 2e-3}, {"learning_rate": 5e-4})


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A home with drawn frames in it."""
    home = tmp_path_factory.mktemp("home")
    formula_study(home, num_trials=1)
    return home


def one(**params) -> Earlier:
    told = {"network": "unet", "learning_rate": 1e-3, "batch_size": 4, "clip_norm": 1.5, "epochs": 60}
    return Earlier("trial 1 of then", told | params)


def test_the_winner_comes_first_then_those_that_are_not_significantly_different(template):
    study = replace(formula_study(template, num_trials=9), store=StudyStore(template, "earlier"))
    carry_out(study, [1e-4, 1e-3, 1.02e-3, 1e-2, 0.99e-3, 1.1e-3, 3e-3])
    found = best_of_study(study.store.snapshot())
    assert found[0].source == "trial 1 of earlier"
    assert {earlier.source.split()[1] for earlier in found} == {"1", "2", "4", "5", "6"}
    assert found[0].params["learning_rate"] == 1e-3 and found[0].params["network"] == "unet"


def test_what_fits_is_tried_once_and_the_rest_is_said_why():
    fitted = fit_in(
        SPACE,
        [
            one(),
            one(epochs=3),
            one(learning_rate=0.5, batch_size=5),
            one(network="pranet"),
            one(network="gmsrf_net"),
            one(network="gmsrf_net", growth_rate=16),
            Earlier("trial 9 of then", {"network": "unet", "learning_rate": 1e-2}),
            Earlier("trial 0 of then", {**SPACE.baseline}),
        ],
        SecondaryGoals(),
    )
    assert fitted.configurations == (
        {"network": "unet", "learning_rate": 1e-3, "batch_size": 4, "clip_norm": 1.5},
        {"network": "gmsrf_net", "learning_rate": 1e-3, "batch_size": 4, "clip_norm": 1.5, "growth_rate": 16},
        {"network": "unet", "learning_rate": 1e-2, "batch_size": 8, "clip_norm": 1.0},
    )
    said = [line.replace("trial 1 of then ", "") for line in fitted.lines]
    assert said[0] == "becomes trial 1" and said[1] == "is already known"
    assert "learning_rate 0.5 is not 1e-05 to 0.1" in said[2] and "batch_size 5 is not" in said[2]
    assert said[3] == "does not fit: its network is pranet"
    assert said[4] == "does not fit: it has no growth_rate"
    assert said[6] == "trial 9 of then becomes trial 3; as in the paper: batch_size, clip_norm"
    assert said[7] == "trial 0 of then is already known"


def test_values_may_be_text_as_mlflow_keeps_them():
    told = {"learning_rate": "0.001", "batch_size": "4", "clip_norm": "1", "growth_rate": "16"}
    (configuration,) = fit_in(SPACE, [one(network="gmsrf_net", **told)], SecondaryGoals()).configurations
    assert configuration == {
        "network": "gmsrf_net",
        "learning_rate": 1e-3,
        "batch_size": 4,
        "clip_norm": 1,
        "growth_rate": 16,
    }


def test_a_value_is_the_one_that_it_is_but_for_binary_arithmetic():
    text = SPACE.text.replace("[0.5, 2.0] }", "[0.1, 0.5], step = 0.1 }").replace("norm = 1.0", "norm = 0.3")
    told = [one(clip_norm=value) for value in (0.1 + 2 * 0.1, "0.30000000000000004", 0.3)]
    fitted = fit_in(parse_space(text), told, SecondaryGoals())
    assert [configuration["clip_norm"] for configuration in fitted.configurations] == [0.3]


def test_what_costs_too_much_does_not_fit():
    fitted = fit_in(SPACE, [one()], SecondaryGoals(limits=limits_of(["parameters<=1e6"])))
    assert fitted.configurations == () and "parameters 31,037,633 above the limit" in fitted.lines[0]


def test_they_have_the_numbers_after_the_papers_configuration_and_are_asked_for_once(template, tmp_path):
    kind = {"num_trials": 5, "race": "paired", "warm_start_configurations": BEGINNINGS}
    visits = DiskStudy(template, tmp_path / "a", **kind).run()
    rates = {visit["number"]: visit["params"]["learning_rate"] for visit in visits}
    assert [rates[number] for number in range(3)] == [1e-4, 2e-3, 5e-4]
    assert len(rates) == 5
    parts: list[dict] = []
    while step := DiskStudy(template, tmp_path / "b", **kind).run(1):
        parts += step
    assert parts == visits


def test_a_study_keeps_what_it_was_begun_with(tmp_path):
    study = formula_study(tmp_path, num_trials=1)
    begin = study.store.begin
    begin(study.space, study.plan, StudySpec(warm_start=("then",)), BEGINNINGS)
    begin(study.space, study.plan, StudySpec(warm_start=("then",)))
    begin(study.space, study.plan)
    assert study.store.warm_start_configurations() == [*BEGINNINGS]
    with pytest.raises(BadStudy, match="warm_start: was"):
        begin(study.space, study.plan, StudySpec(warm_start=("others",)))
