"""The specification of a study: every option that shapes it, declared once, with its help text and its default.

The options of the command line follow from these fields, `study.json` stores their values, and a resumed
study is compared by them. No heavy package is imported here, since `--help` reads this module.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Annotated, Any, cast, get_type_hints

from annotated_types import Ge, Le

from orchestrator.search.choices import GoalName, ObjectiveName, RuleName, SamplerName

LARGEST_SEED = 2**32 - 1  # that random generators take


@dataclass(frozen=True)
class Option:
    """How a field of the specification appears on the command line, and whether it may change on resume."""

    help: str
    is_fixed: bool = False  # whether a study keeps the value that it was begun with
    flag: str | None = None  # on the command line; None: the field's name
    env: str | None = None  # environment variable with a default


PLANNED_TRIALS = 40  # configurations of a forecast that is given no number


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """Options of a study: objectives, constraints, sampler, race, budget, seed; neither search space nor data."""

    trials: Annotated[
        int | None, Ge(1), Option("Number of configurations to try, including those of earlier runs.")
    ] = None
    hours: Annotated[
        float | None,
        Ge(0),
        Option(
            "Wall time of this run; running fits then stop after their current epoch. Run again to continue."
        ),
    ] = None
    gpu_hours: Annotated[
        float | None,
        Ge(0),
        Option(
            "GPU-hours of all fits (time x GPUs held) in all runs; without GPUs, hours of fits in CPU lanes."
        ),
    ] = None
    epochs: Annotated[int | None, Ge(1), Option("Training epochs of all fits, in all runs.")] = None
    until_unlikely: Annotated[
        bool,
        Option(
            "Stop when no improvement is likely: when a model of all configurations expects a gain of less than 0.1 "
            "Dice points over the incumbent, for three configurations in a row.",
            flag="--until-unlikely",
        ),
    ] = False
    race: Annotated[
        RuleName | None,
        Option(
            "Rule that decides which trial gets another fold; none: every trial gets all folds. Default: paired; with "
            "several objectives, none."
        ),
    ] = None
    objectives: Annotated[
        tuple[GoalName, ...],
        Option(
            "Objective: mean over images (default), worst-fold, center-mean or worst-center. Repeat for further "
            "objectives; these can also be parameters, gmacs or inference_ms, which are minimised. The first one "
            "decides the champion.",
            is_fixed=True,
            flag="--objective",
        ),
    ] = ("mean",)
    constraints: Annotated[
        tuple[str, ...],
        Option(
            "Limit on the cost of the champion, such as 'parameters<=5e6'; also gmacs or inference_ms. Repeat for "
            "several. Configurations that are known to exceed it are not trained, except the baseline.",
            is_fixed=True,
            flag="--constraint",
        ),
    ] = ()
    sampler: Annotated[
        SamplerName | None,
        Option(
            "Hyperparameter sampler. surrogate (default): predicts the score of every configuration from the trials "
            "so far, and tries the one with the largest expected gain. tpe (default for several objectives): prefers "
            "values that are more frequent in good trials than in bad ones. gp: like surrogate, but takes scores on "
            "one fold for scores on all folds. random: draws from the search space. Or any sampler of Optuna, "
            "'optuna:CmaEsSampler()', or of OptunaHub, 'optunahub:PACKAGE.CLASS()'."
        ),
    ] = None
    warm_start: Annotated[
        tuple[str, ...],
        Option(
            "Earlier study in this home, or experiment in MLflow, whose five best configurations are tried right "
            "after the baseline, if they fit. Repeat for several.",
            is_fixed=True,
        ),
    ] = ()
    storage: Annotated[
        str | None,
        Option(
            "Database for the trials, as a URL without a password: postgresql://user@host/name, mysql, sqlite. "
            "Default: a journal file in the study's folder. A study keeps the storage it was started with.",
            is_fixed=True,
            env="ORCHESTRATOR_STORAGE",
        ),
    ] = None
    nested: Annotated[
        int | None,
        Ge(2),
        Option(
            "Number of outer folds. For each, a study with the same budget first searches without its cases and is "
            "then scored on them: an estimate, free of selection bias, of the score of the whole search on new "
            "images."
        ),
    ] = None
    rescore: Annotated[
        int,
        Ge(0),
        Option(
            "Maximum number of finalists (the best trial and those not significantly different from it) to "
            "re-evaluate on re-drawn folds with new seeds before the champion is chosen; 0: none."
        ),
    ] = 3
    seed: Annotated[
        int, Ge(0), Le(LARGEST_SEED), Option("Seed of the split and of the search.", is_fixed=True)
    ] = 0

    @property
    def objective(self) -> ObjectiveName:
        """The first objective, a score, which selects the champion."""
        return cast(ObjectiveName, self.objectives[0])

    @property
    def chosen_race(self) -> RuleName:
        """The rule of the race: as given, or the default for the number of objectives."""
        return self.race or ("paired" if len(self.objectives) == 1 else "none")


@dataclass(frozen=True)
class SpecField:
    """One field of the specification."""

    name: str
    kind: Any  # its type, without its annotations
    default: Any
    option: Option
    least: Any = None
    most: Any = None


def spec_fields() -> Iterator[SpecField]:
    """Every field of the specification, in order."""
    hints = get_type_hints(StudySpec, include_extras=True)
    for field in fields(StudySpec):
        kind, annotations = hints[field.name].__origin__, hints[field.name].__metadata__
        (option,) = (one for one in annotations if isinstance(one, Option))
        least = next((one.ge for one in annotations if isinstance(one, Ge)), None)
        most = next((one.le for one in annotations if isinstance(one, Le)), None)
        yield SpecField(field.name, kind, field.default, option, least, most)
