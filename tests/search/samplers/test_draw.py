"""Every sampler, on a space with conditional and categorical parameters."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from types import SimpleNamespace

import cmaes
import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from threadpoolctl import threadpool_info, threadpool_limits

from orchestrator.common.errors import BadStudy
from orchestrator.search.goals.goals import front
from orchestrator.search.samplers import fold_aware_sampler
from orchestrator.search.samplers.draw import Proposal, draw, refuse_unless_drawn
from orchestrator.search.samplers.inducing_points import fitted
from orchestrator.search.samplers.past_trials import PastTrial
from orchestrator.search.samplers.registry import SAMPLERS, default_sampler, sampler_names
from orchestrator.search.space.space import SearchSpace
from orchestrator.search.space.space_file import parse_space

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
ONE = (StudyDirection.MAXIMIZE,)
CMA, NSGA = "optuna:CmaEsSampler", "optuna:NSGAIISampler(population_size=8)"
EACH = [*SAMPLERS, CMA, NSGA]
FOR_SEVERAL = [*sampler_names(2), NSGA]


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


def search(space: SearchSpace, sampler: str, num_trials: int, num_in_flight: int = 0) -> list[PastTrial]:
    """The baseline, and so many draws; the last ones are in flight."""
    baseline = Proposal(dict(space.baseline), {})
    found = [past(space, 0, baseline, worth(baseline.params))]
    for number in range(1, num_trials):
        drawn = draw(space, found, sampler, seed=number)
        done = number < num_trials - num_in_flight
        found.append(past(space, number, drawn, worth(drawn.params) if done else None))
    return found


def test_the_default_can_sample_for_so_many_objectives():
    assert all(default_sampler(number) in sampler_names(number) for number in (1, 2, 3))


@pytest.mark.parametrize("sampler", EACH)
def test_conditional_and_categorical_parameters_are_drawn_the_same_for_the_same_seed(sampler):
    found = search(MIXED, sampler, 14, num_in_flight=2)
    again = [draw(MIXED, found, sampler, seed=seed) for seed in (100, 100, 200)]
    assert again[0] == again[1] != again[2]
    drawn = [one.trial.params for one in found[1:]]
    assert {params["network"] for params in drawn} == {"unet", "gmsrf_net"}
    assert all(("growth_rate" in params) == (params["network"] == "gmsrf_net") for params in drawn)


@pytest.mark.parametrize("sampler", ["tpe", CMA])
def test_it_comes_closer_to_the_best_than_random_draws(sampler):
    late = search(NUMBERS, sampler, 40)[-10:]
    anywhere = search(NUMBERS, "random", 100)
    assert sum(one.value for one in late) / 10 > sum(one.value for one in anywhere) / 100 + 0.2


@pytest.mark.parametrize("sampler", ["surrogate", "tpe"])
def test_draws_keep_away_from_where_configurations_fail(sampler):
    """A quarter of the space fails; of the last 12 of each of two searches at most 3 in the mean."""
    num_failed = 0
    for start in (0, 1000):
        found: list[PastTrial] = []
        for number in range(26):
            seed = start + number
            drawn = draw(NUMBERS, found, sampler, seed) if found else Proposal(dict(NUMBERS.baseline), {})
            failed = drawn.params["learning_rate"] > 1e-2
            value = None if failed else worth(drawn.params)
            found.append(past(NUMBERS, number, drawn, value, failed=failed))
        num_failed += sum(one.value is None for one in found[14:])
    assert num_failed <= 6


def test_a_network_that_fails_is_drawn_no_more_often_than_its_turn_and_away_from_its_failures():
    """Its large batches fail: as often as others it is tried, with smaller ones."""
    found = [past(MIXED, 0, Proposal(dict(MIXED.baseline), {}), 0.5)]
    for number in range(1, 24):
        drawn = draw(MIXED, found, "surrogate", seed=number)
        failed = drawn.params["network"] == "gmsrf_net" and drawn.params["batch_size"] > 8
        found.append(past(MIXED, number, drawn, None if failed else worth(drawn.params), failed=failed))
    late = [one for one in found[12:] if one.trial.params["network"] == "gmsrf_net"]
    assert len(late) >= 2 and sum(one.value is None for one in late) <= len(late) / 2


def test_a_configuration_that_exceeds_a_limit_is_as_one_that_failed():
    found = search(NUMBERS, "surrogate", 12)
    failed = [
        past(NUMBERS, 8 + n, Proposal(one.trial.params, {}), None, failed=True)
        for n, one in enumerate(found[8:])
    ]
    exceeding = [replace(one, excess={"gmacs<=1": 0.2}) for one in found[8:]]
    drawn = [draw(NUMBERS, [*found[:8], *rest], "surrogate", 3) for rest in (failed, exceeding, found[8:])]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("sampler", FOR_SEVERAL)
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


def test_generations_go_on_through_what_a_sampler_wrote_on_its_trials():
    size = cmaes.CMA(mean=[0.5, 0.5], sigma=0.1).population_size
    attributes = [one.trial.user_attrs for one in search(NUMBERS, CMA, 2 * size + 2)]
    generations = [one.get("sampler:cma:generation") for one in attributes]
    assert generations == [None] + [0] * size + [1] * size + [2]


def search_two(space: SearchSpace, sampler: str, num_trials: int) -> list[PastTrial]:
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


@pytest.mark.parametrize("kind", ["NSGAIISampler", "NSGAIIISampler"])
def test_nsga_breeds_generation_after_generation_from_the_best(kind):
    found = search_two(NUMBERS, f"optuna:{kind}(population_size=8)", 1 + 3 * 8)
    generations = [one.trial.user_attrs.get(f"sampler:{kind}:generation") for one in found]
    assert generations == [None] + [0] * 8 + [1] * 8 + [2] * 8
    values = {number: (one.value or 0.0, *one.secondary) for number, one in enumerate(found)}
    best = front(values, ("maximize", "minimize"))
    assert sum(number > 8 for number in best) > len(best) / 2


def test_a_name_gives_the_arguments_of_a_sampler_as_literals():
    assert (
        refuse_unless_drawn(MIXED, "optuna:TPESampler(n_startup_trials=3, multivariate=True)", ONE, 0) == ()
    )
    (remark,) = refuse_unless_drawn(NUMBERS, "optuna:CmaEsSampler(sigma0=0.2)", ONE, 0)
    assert "pickled in the study's records" in remark


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cmaes", "cmaes is now spelled 'optuna:CmaEsSampler'"),
        ("nsga3", r"now spelled 'optuna:NSGAIIISampler\(population_size=20\)'"),
        ("surogate", "did you mean surrogate"),
        ("optuna:Foo", "has no sampler 'Foo'; known: BruteForceSampler, CmaEsSampler"),
        ("optuna:CmaEsSampler(sigma=1)", "no argument 'sigma'; did you mean sigma0"),
        ("optuna:CmaEsSampler(popsize='x')", r"popsize is of type int \| None, found 'x'"),
        ("optuna:CmaEsSampler(7)", "arguments are given by name"),
        ("optuna:RandomSampler(seed=1)", "set the seed with --seed"),
        ("optuna:TPESampler(gamma=open('x'))", "with numbers, texts, lists and dicts as values"),
        ("optuna:QMCSampler", "its position in the sequence is kept on the study"),
        ("optuna:BruteForceSampler", "cannot sample this search space .*step must be given"),
        ("optunahub:AutoSampler", "expected optunahub:PACKAGE.CLASS"),
        ("optunahub:auto_sampler.AutoSampler", "optunahub is not installed .* pip install optunahub"),
    ],
)
def test_a_sampler_that_cannot_be_had_is_refused_with_what_can(text, words):
    with pytest.raises(BadStudy, match=words):
        refuse_unless_drawn(MIXED, text, ONE, 0)


def test_a_sampler_of_optunahub_is_loaded_by_package_and_class(monkeypatch):
    loaded = SimpleNamespace(Own=type("Own", (RandomSampler,), {}))
    hub = SimpleNamespace(load_module={"samplers/own": loaded}.__getitem__)
    monkeypatch.setitem(sys.modules, "optunahub", hub)
    (remark,) = refuse_unless_drawn(MIXED, "optunahub:own.Own()", ONE, 0)
    assert "Own is code that OptunaHub downloads" in remark
    with pytest.raises(BadStudy, match="samplers/own gave no Other"):
        refuse_unless_drawn(MIXED, "optunahub:own.Other", ONE, 0)


def test_a_sampler_that_keeps_its_state_on_the_study_is_refused(monkeypatch):
    class Counting(RandomSampler):
        def before_trial(self, study, trial):
            study._storage.set_study_system_attr(study._study_id, "count", 1)

    hub = SimpleNamespace(load_module=lambda name: SimpleNamespace(Counting=Counting))
    monkeypatch.setitem(sys.modules, "optunahub", hub)
    with pytest.raises(BadStudy, match=r"keeps state on the study \(count\)"):
        refuse_unless_drawn(MIXED, "optunahub:counting.Counting", ONE, 0)


NETWORKS = parse_space("""
network = { choice = ["unet", "gmsrf_net", "pranet"] }
[search]
learning_rate = { log_uniform = [1e-5, 1e-1] }
clip_norm     = { uniform = [0.5, 2.0] }
[baseline]
learning_rate = 1e-4
clip_norm = 1.0
[gmsrf_net.search]
learning_rate = { log_uniform = [1e-4, 1e-2] }
growth_rate   = { choice = [8, 16, 32] }
[gmsrf_net.baseline]
growth_rate = 8
[pranet.fixed]
learning_rate = 1e-3
""")


@pytest.mark.parametrize("sampler", EACH)
def test_every_sampler_draws_configurations_of_several_networks(sampler):
    found: list[PastTrial] = []
    for number in range(14):
        given = NETWORKS.baselines[number : number + 1]
        drawn = Proposal(given[0], {}) if given else draw(NETWORKS, found, sampler, number)
        params = NETWORKS.drawn(drawn.params)
        assert drawn.params == NETWORKS.stored(params) and NETWORKS.configuration(params)
        found.append(past(NETWORKS, number, drawn, worth(params)))
    assert {one.trial.params["network"] for one in found} == {*NETWORKS.networks}


def test_a_draw_computes_on_one_thread_and_leaves_the_process_its_own(monkeypatch):
    inside: list[set[int]] = []

    def seen(*arrays):
        inside.append({pool["num_threads"] for pool in threadpool_info()})
        return fitted(*arrays)

    monkeypatch.setattr(fold_aware_sampler, "fitted", seen)
    some = [draw(NUMBERS, [], "random", seed) for seed in range(6)]
    known = [past(NUMBERS, number, one, worth(one.params)) for number, one in enumerate(some) if one]
    with threadpool_limits(2):
        assert draw(NUMBERS, known, "surrogate", seed=0) is not None
        assert {pool["num_threads"] for pool in threadpool_info()} == {2}
    assert inside == [{1}]
