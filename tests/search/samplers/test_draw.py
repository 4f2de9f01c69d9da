"""Who suggests: every sampler, on a space with conditional and categorical parameters."""

from __future__ import annotations

import math
from typing import get_args

import cmaes
import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator.search.choices import SamplerName
from orchestrator.search.goals.goals import front
from orchestrator.search.samplers.draw import (
    FOR_ONE,
    FOR_SEVERAL,
    POPULATION,
    PastTrial,
    Proposal,
    default_sampler,
    draw,
)
from orchestrator.search.space.space import SearchSpace, parse_space

optuna.logging.set_verbosity(optuna.logging.WARNING)
TWO = (StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE)
MIXED = parse_space("""
network = { choice = ["unet", "gmsrf_net"] }
[search]
learning_rate = { log_uniform = [1e-5, 1e-1] }
clip_norm     = { uniform = [0.5, 2.0] }
batch_size    = { int = [2, 16], step = 2 }
growth_rate   = { choice = [8, 16, 32], when = { network = "gmsrf_net" } }
[baseline]
network = "unet"
learning_rate = 1e-4
clip_norm = 1.0
batch_size = 8
""")
NUMBERS = parse_space("""
network = "unet"
[search]
learning_rate = { log_uniform = [1e-5, 1e-1] }
clip_norm     = { uniform = [0.5, 2.0] }
[baseline]
learning_rate = 1e-4
clip_norm = 1.0
""")
NAMES = get_args(SamplerName)
EACH = [*FOR_ONE]


def worth(params: dict) -> float:
    """1 at a rate of 1e-3 and a norm of 1.5."""
    return math.exp(-((math.log10(params["learning_rate"]) + 3) ** 2) - (params["clip_norm"] - 1.5) ** 2)


def past(
    space: SearchSpace,
    number: int,
    drawn: Proposal,
    value: float | None,
    *secondary: float,
    failed: bool = False,
) -> PastTrial:
    """What becomes of a draw."""
    study = optuna.create_study()
    study.enqueue_trial(drawn.params)
    trial = study.ask()
    space.sample(trial)
    stored = create_trial(
        state=TrialState.FAIL if failed else TrialState.RUNNING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=drawn.marks,
    )
    stored.number = number
    return PastTrial(stored, value, 5, secondary)


def search(space: SearchSpace, sampler: SamplerName, num_trials: int, num_flying: int = 0) -> list[PastTrial]:
    """The paper's setting, and so many draws; the last ones are in flight."""
    baseline = Proposal(dict(space.baseline), {})
    found = [past(space, 0, baseline, worth(baseline.params))]
    for number in range(1, num_trials):
        drawn = draw(space, found, sampler, seed=number)
        done = number < num_trials - num_flying
        found.append(past(space, number, drawn, worth(drawn.params) if done else None))
    return found


def test_every_name_has_a_sampler():
    assert FOR_ONE.keys() | FOR_SEVERAL.keys() == {*NAMES}
    assert default_sampler(1) in FOR_ONE and default_sampler(2) in FOR_SEVERAL


@pytest.mark.parametrize("sampler", EACH)
def test_conditional_and_categorical_parameters_are_drawn_the_same_for_the_same_seed(sampler):
    found = search(MIXED, sampler, 14, num_flying=2)
    again = [draw(MIXED, found, sampler, seed=seed) for seed in (100, 100, 200)]
    assert again[0] == again[1] != again[2]
    drawn = [one.trial.params for one in found[1:]]
    assert {params["network"] for params in drawn} == {"unet", "gmsrf_net"}
    assert all(("growth_rate" in params) == (params["network"] == "gmsrf_net") for params in drawn)


@pytest.mark.parametrize("sampler", EACH[1::2])
def test_it_comes_closer_to_the_best_than_random_draws(sampler):
    late = search(NUMBERS, sampler, 40)[-10:]
    anywhere = search(NUMBERS, "random", 100)
    assert sum(one.value for one in late) / 10 > sum(one.value for one in anywhere) / 100 + 0.2


@pytest.mark.parametrize("sampler", ["surrogate", "tpe", "cmaes"])
def test_draws_keep_away_from_where_configurations_fail(sampler):
    found: list[PastTrial] = []
    for number in range(26):
        drawn = draw(NUMBERS, found, sampler, number) if found else Proposal(dict(NUMBERS.baseline), {})
        failed = drawn.params["learning_rate"] > 1e-2
        value = None if failed else worth(drawn.params)
        found.append(past(NUMBERS, number, drawn, value, failed=failed))
    assert sum(one.value is None for one in found[14:]) <= 3


@pytest.mark.parametrize("sampler", [*FOR_SEVERAL])
def test_of_several_objectives_a_failed_configuration_is_the_worst_in_all(sampler):
    found = search_two(NUMBERS, sampler, 4)
    failed = [
        past(NUMBERS, 4 + n, Proposal(one.trial.params, {}), None, failed=True) for n, one in enumerate(found)
    ]
    assert draw(NUMBERS, [*found, *failed], sampler, 1, TWO) is not None
    assert draw(NUMBERS, failed, sampler, 1, TWO) is not None


def test_a_configuration_on_a_decimal_step_is_drawn_once():
    text = """
    network = "unet"
    [search]
    clip_norm = { uniform = [0.1, 0.5], step = 0.1 }
    [baseline]
    clip_norm = 0.3
    """
    space = parse_space(text)
    found = [past(space, 0, Proposal(space.baseline, {}), 0.5)]
    while drawn := draw(space, found, "random", len(found)):
        found.append(past(space, len(found), drawn, 0.5))
    assert sorted(one.trial.params["clip_norm"] for one in found) == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_draws_keep_away_from_those_in_flight():
    found = search(NUMBERS, "tpe", 20)
    seen: list[FrozenTrial] = []
    for number in range(20, 24):
        drawn = draw(NUMBERS, found, "tpe", seed=1)  # the same seed: only what is in flight differs
        found.append(past(NUMBERS, number, drawn, None))
        seen.append(found[-1].trial)
    assert len({trial.params["learning_rate"] for trial in seen}) == 4


def test_generations_of_cmaes_are_carried_by_their_trials():
    size = cmaes.CMA(mean=[0.5, 0.5], sigma=0.1).population_size
    marks = [one.trial.user_attrs for one in search(NUMBERS, "cmaes", 2 * size + 2)]
    assert marks[0] == {}
    assert [mark["cmaes:generation"] for mark in marks[1:]] == [0] * size + [1] * size + [2]


def test_a_generation_waits_for_its_members_in_flight():
    size = cmaes.CMA(mean=[0.5, 0.5], sigma=0.1).population_size
    found = search(NUMBERS, "cmaes", size + 3, num_flying=3)
    assert draw(NUMBERS, found, "cmaes", seed=1).marks == {"cmaes:generation": 0}


def search_two(space: SearchSpace, sampler: SamplerName, num_trials: int) -> list[PastTrial]:
    """As `search`, for a second objective, to be small: the batch size, or the clip norm where there is none."""
    found: list[PastTrial] = []
    for number in range(num_trials):
        drawn = Proposal(dict(space.baseline), {})
        if number:
            drawn = draw(space, found, sampler, number, TWO)
        small = drawn.params.get("batch_size", drawn.params["clip_norm"])
        found.append(past(space, number, drawn, worth(drawn.params), float(small)))
    return found


@pytest.mark.parametrize("sampler", FOR_SEVERAL)
def test_several_objectives_on_a_conditional_space_the_same_for_the_same_seed(sampler):
    found = search_two(MIXED, sampler, 12)
    again = [draw(MIXED, found, sampler, seed, TWO) for seed in (100, 100, 200)]
    assert again[0] == again[1] != again[2]
    assert {one.trial.params["network"] for one in found} == {"unet", "gmsrf_net"}


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3"])
def test_generations_of_nsga_are_carried_by_their_trials_and_breed_from_the_best(sampler):
    found = search_two(NUMBERS, sampler, 3 * POPULATION)
    key = {"nsga2": "NSGAIISampler:generation", "nsga3": "NSGAIIISampler:generation"}[sampler]
    marks = [one.trial.user_attrs.get(key, 0) for one in found]
    assert marks == sorted(marks) and marks == [number // POPULATION for number in range(len(found))]
    values = {n: (one.value or 0.0, *one.secondary) for n, one in enumerate(found)}
    best = front(values, ("maximize", "minimize"))
    assert sum(number >= POPULATION for number in best) > len(best) / 2
