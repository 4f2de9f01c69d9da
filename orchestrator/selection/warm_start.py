"""Configurations that earlier studies recommend: tried right after the baselines, where they fit the space.

They are stored once, when a study begins, as its first trials after the baselines; so a resumed study asks
for them again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FixedTrial

from orchestrator.common.errors import BadSpace
from orchestrator.search.goals.goals import SecondaryGoals
from orchestrator.search.samplers.draw import is_allowed
from orchestrator.search.significance import all_against, compared_trial, share_of_test
from orchestrator.search.space.distributions import Distribution
from orchestrator.search.space.keys import NETWORK, plain
from orchestrator.search.space.space import SearchSpace
from orchestrator.search.space.tables import in_order
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.search.store.study_store import StudyStore

MOST = 5  # of one study


@dataclass(frozen=True)
class Earlier:
    """Configuration of an earlier study: its flat parameters, as values or as text."""

    source: str  # "trial 3 of unet-Kvasir"
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Fitted:
    """Earlier configurations that fit into a search space, and a sentence on each, fitting or not."""

    configurations: tuple[dict[str, Any], ...]  # the searched parameters
    lines: tuple[str, ...]  # what is said of each


def best_of_study(snapshot: StudySnapshot, networks: Collection[str] = ()) -> list[Earlier]:
    """At most MOST configurations: the winner, those not significantly different from it, then the next best.

    `networks`: those of the study that begins; if any of these trials has one of them, only such trials are
    taken.
    """
    standing = snapshot.feasible()
    if not standing:
        return []
    winner, *others = [compared_trial(trial.number, score) for trial, score in standing]
    groups = snapshot.groups_of(standing[0][1].case_ids)
    surely_worse = {
        one.other for one in all_against(winner, others, groups, share_of_test(snapshot.plan)) if one.is_sure
    }
    trials = sorted((trial for trial, _ in standing), key=lambda trial: trial.number in surely_worse)
    fitting = [trial for trial in trials if trial.configuration.network in networks] or trials
    return [Earlier(f"trial {trial.number} of {snapshot.name}", trial.params) for trial in fitting[:MOST]]


def num_chosen_by(snapshot: StudySnapshot, outside: Collection[str]) -> int:
    """Number of these images, by `Case.sha256`, that an earlier study trained on or chose by, under any name.

    An image that was encoded again, or has another mask, is not recognised.
    """
    used = {case_id for fold in snapshot.plan.folds for case_id in (*fold.train, *fold.val)}
    cases = (case for dataset in snapshot.datasets for case in dataset.cases)
    return len({case.sha256 for case in cases if case.id in used}.intersection(outside))


def lineage(store: StudyStore) -> list[str]:
    """Names of the study, of those that recommended its first configurations, and of theirs, in this home."""
    found = [store.name]
    for name in found:
        study = StudyStore(store.home, name)
        recommended_by = study.warm_start if study.warm_start_configurations() else []
        found += [one for one in dict.fromkeys(recommended_by) if one not in found]
    return found


def fit_in(space: SearchSpace, earlier: Sequence[Earlier], secondary: SecondaryGoals) -> Fitted:
    """Configurations in the space that meet its constraints, each once, and the sentences of `Fitted`."""
    configurations: list[dict[str, Any]] = []
    lines = []
    known = list(space.baselines)
    num_first = 1 + sum(is_allowed(space, one, secondary) for one in known[1:])
    for one in earlier:
        searched, problems, filled = _read(space, one.params)
        problems = problems or _refusals(space, searched, secondary)
        if problems:
            lines.append(f"{one.source} does not fit: {'; '.join(problems)}")
        elif searched in known:
            lines.append(f"{one.source} is already known")
        else:
            known.append(searched)
            configurations.append(searched)
            rest = f"; as in the paper: {', '.join(filled)}" if filled else ""
            lines.append(f"{one.source} becomes trial {num_first + len(configurations) - 1}{rest}")
    return Fitted(tuple(configurations), tuple(lines))


def _read(space: SearchSpace, stored: Mapping[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    """Searched parameters of a configuration, reasons why it does not fit, names taken from the baseline."""
    network = stored.get(NETWORK)
    if network not in space.networks:
        return {}, [f"its network is {network}"], []
    flat, baseline = space.fixed_of(network), space.baseline_of(network)
    searched, problems, filled = {}, [], []
    for name in in_order(space.search):
        distribution = space.search[name]
        if not distribution.exists(flat):
            continue
        key = plain(name)
        if key in stored:
            value = distribution.exact(_value(distribution, stored[key]))
            if not distribution.holds(value):
                problems.append(f"{key} {stored[key]} is not {distribution}")
        elif key in baseline:
            value = baseline[key]
            filled.append(key)
        else:
            problems.append(f"it has no {key}")
            continue
        flat[key] = searched[name] = value
    return searched, problems, filled


def _value(distribution: Distribution, stored: Any) -> Any:
    """The value as stored, or the reading of its text that lies in this distribution."""
    if not isinstance(stored, str):
        return stored
    readings: list[Any] = [stored]
    for read in (int, float, json.loads):
        try:
            readings.append(read(stored))
        except ValueError:
            continue
    return next((value for value in readings if distribution.holds(value)), stored)


def _refusals(space: SearchSpace, searched: Mapping[str, Any], secondary: SecondaryGoals) -> list[str]:
    """Reasons to refuse a configuration whose values are valid one by one; [] if there are none."""
    try:
        configuration = space.configuration(space.sample(FixedTrial(dict(searched))))
    except BadSpace as error:
        return list(error.problems)
    broken = secondary.broken(configuration)
    return [broken] if broken else []
