"""The samplers that `--sampler` names: four of the product's own choice, and every class of Optuna or OptunaHub."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import lru_cache

from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler

from orchestrator.common.errors import BadStudy
from orchestrator.search.samplers.external import external_sampler
from orchestrator.search.samplers.fold_aware_sampler import FoldAwareSampler
from orchestrator.search.samplers.sampler_kind import OPTION, SamplerKind

PREFIXES = ("optuna:", "optunahub:")
# Names of earlier versions, and how the same algorithm is named now.
REPLACED = {
    "cmaes": "optuna:CmaEsSampler",
    "nsga2": "optuna:NSGAIISampler(population_size=20)",
    "nsga3": "optuna:NSGAIIISampler(population_size=20)",
}


def _tpe(seed: int, num_objectives: int) -> BaseSampler:
    """One objective: parameters are sampled jointly, conditional ones in groups, away from trials in flight."""
    if num_objectives > 1:
        return TPESampler(seed=seed)
    return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


SAMPLERS: Mapping[str, SamplerKind] = {
    "surrogate": SamplerKind(
        lambda seed, _: FoldAwareSampler(seed), for_several_objectives=False, reads_failures=True
    ),
    "tpe": SamplerKind(_tpe, reads_constraints=True),
    "gp": SamplerKind(lambda seed, _: GPSampler(seed=seed), reads_constraints=True),
    "random": SamplerKind(lambda seed, _: RandomSampler(seed=seed), reads_trials=False),
}


def default_sampler(num_objectives: int) -> str:
    """Name of the Gaussian process that reads fold counts; for several objectives TPE, Optuna's default."""
    return "surrogate" if num_objectives == 1 else "tpe"


def sampler_names(num_objectives: int) -> tuple[str, ...]:
    """Names in the registry of samplers for that number of objectives."""
    return tuple(n for n, kind in SAMPLERS.items() if num_objectives == 1 or kind.for_several_objectives)


@lru_cache(maxsize=64)
def sampler_kind(text: str, num_objectives: int = 1) -> SamplerKind:
    """The sampler that a name, or `optuna:Class(keyword=literal)`, stands for.

    Raises `BadStudy` for unknown names, classes and arguments, and built-in ones of a single objective only.
    """
    if text.startswith(PREFIXES):
        return external_sampler(text)
    count = "one objective" if num_objectives == 1 else f"{num_objectives} objectives"
    known = ", ".join(sampler_names(num_objectives))
    if text in REPLACED:
        raise BadStudy(OPTION, f"{text} is now spelled '{REPLACED[text]}'; built in for {count}: {known}")
    if text in SAMPLERS and text not in sampler_names(num_objectives):
        raise BadStudy(OPTION, f"{text} is not for {count}; these are: {known}, or any of optuna:CLASS(...)")
    if text not in SAMPLERS:
        near = difflib.get_close_matches(text, SAMPLERS, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        expected = f"{known}, optuna:CLASS(keyword=value) or optunahub:PACKAGE.CLASS(keyword=value)"
        raise BadStudy(OPTION, f"expected {expected}; found {text!r}{hint}")
    return SAMPLERS[text]


def sampler_problems(text: str, num_objectives: int) -> list[str]:
    """Reasons why a study with that number of objectives cannot use this sampler; [] if it can."""
    try:
        sampler_kind(text, num_objectives)
    except BadStudy as refused:
        return [f"{OPTION}: {problem}" for problem in refused.problems]
    return []
