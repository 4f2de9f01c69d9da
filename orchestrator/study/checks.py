"""Checks of a study before a GPU is taken: settings that cannot work."""

from __future__ import annotations

import logging
from itertools import chain
from typing import Any

from optuna.study import StudyDirection

from orchestrator.common.errors import BadSpace, BadStudy
from orchestrator.data.splits.resplit import resplit
from orchestrator.ray_cluster.machine import Machine
from orchestrator.search.budget.limits import Budget
from orchestrator.search.goals.goals import SecondaryGoals, secondary_goals
from orchestrator.search.goals.objective import objective_over, objective_problems
from orchestrator.search.race.rules import RULES
from orchestrator.search.samplers.draw import refuse_unless_allowed, refuse_unless_drawn
from orchestrator.search.samplers.registry import sampler_problems
from orchestrator.search.space.space import SearchSpace
from orchestrator.search.store.optuna_storage import reach
from orchestrator.search.study_spec import StudySpec
from orchestrator.study.runnable_study import RunnableStudy, sampler_of
from orchestrator.training.recipe import Recipe
from orchestrator.training.sampling import sampling_problem

logger = logging.getLogger(__name__)


def check(study: RunnableStudy, machine: Machine) -> None:
    """Raise the errors of a study that cannot work, before a GPU is taken."""
    Budget.of(study.spec)
    problems = []
    smallest = min(len(fold.train) for fold in study.plan.folds)
    for batch_size in dict.fromkeys(chain(*batch_sizes(study.space).values())):
        if batch_size > smallest:
            problems.append(
                f"batch_size: {batch_size} images need a fold that large; the smallest trains on {smallest}"
            )
        if batch_size % (machine.workers_per_fit or 1):
            problems.append(
                f"batch_size: {batch_size} images cannot be split evenly over {machine.workers_per_fit} workers"
            )
    problems += _sampling_problems(study)
    if problems:
        raise BadSpace(str(study.space.path or "search space"), problems)
    if study.rescore > 1:
        resplit(study.plan, study.datasets, study.unseen)  # refuses what cannot be re-drawn
    problems = [*objective_problems(study.objective, study.plan), *study.secondary.problems(study.plan)]
    if problems := [*problems, *_several_problems(study.spec), *_race_problems(study.spec)]:
        raise BadStudy("--objective", problems)
    _refuse_unless_drawn(study.spec, study.space, study.secondary)
    if (url := study.spec.storage or study.store.storage) is not None:
        reach(url)


def _sampling_problems(study: RunnableStudy) -> list[str]:
    """Samplings of the space that the training cases of a fold do not allow, a line each."""
    known = {case.id: case for dataset in study.datasets for case in dataset.cases}
    spaces = (study.space.of(network) for network in study.space.networks)
    asked = dict.fromkeys(chain(*(_values(space, "sampling") for space in spaces)))
    found = (
        sampling_problem(sampling, [known[case_id] for case_id in fold.train])
        for sampling in asked
        for fold in study.plan.folds
    )
    return list(dict.fromkeys(problem for problem in found if problem))


def _values(space: SearchSpace, key: str) -> list[Any]:
    """Every value that trials can have of a parameter of the recipe, which is a choice or fixed, no range."""
    if key in space.search:
        return list(space.search[key].steps)
    return [space.fixed.get(key, Recipe.model_fields[key].default)]


def check_options(spec: StudySpec, space: SearchSpace) -> None:
    """Raise the errors of options that work on no data, before images are compared, which takes minutes."""
    if problems := [*_several_problems(spec), *_race_problems(spec)]:
        raise BadStudy("--objective", problems)
    _refuse_unless_drawn(spec, space, secondary_goals(spec.objectives[1:], (), spec.constraints))


def _refuse_unless_drawn(spec: StudySpec, space: SearchSpace, secondary: SecondaryGoals) -> None:
    directions = [StudyDirection[direction.upper()] for direction in secondary.directions]
    for remark in refuse_unless_drawn(space, sampler_of(spec), directions, spec.seed):
        logger.warning(remark)
    refuse_unless_allowed(space, secondary, spec.seed)


def _several_problems(spec: StudySpec) -> list[str]:
    """Options that do not go together with the number of objectives, a line each."""
    goals = spec.objectives
    several = len(goals) > 1
    count = f"{len(goals)} objectives"
    problems = []
    if len({*goals}) < len(goals):
        problems.append(f"each can be given once, found {', '.join(goals)}")
    problems += sampler_problems(sampler_of(spec), len(goals))
    if several and not RULES[spec.chosen_race].trains_all_folds:
        problems.append(
            f"--race {spec.chosen_race} compares trials by one objective, found {count}; use --race none"
        )
    if several and spec.until_unlikely:
        problems.append(f"--until-unlikely looks at one objective, found {count}; use another budget")
    return problems


def _race_problems(spec: StudySpec) -> list[str]:
    is_mean = objective_over(spec.objective, ()).is_mean
    if spec.objectives[1:] or is_mean or not RULES[spec.chosen_race].compares_means:
        return []
    others = " or ".join(name for name, rule in RULES.items() if not rule.compares_means)
    return [
        f"--race {spec.chosen_race} stops a trial whose mean over images is surely below the best one's, which says "
        f"little about its {spec.objective}; use --race {others}"
    ]


def batch_sizes(space: SearchSpace) -> dict[str, tuple[int, ...]]:
    """Network -> every batch size that its trials can have."""
    return {network: tuple(map(int, _values(space.of(network), "batch_size"))) for network in space.networks}
