"""The fold-aware Gaussian process as a sampler for Optuna.

A trial says in its user attribute `folds` on how many folds its value rests; without it, on one; in `by_fold` what it
has on each of them, which counts in place of its value; in `fold_weights` how many times as many images each fold of
the split has as folds have in the mean, where they differ; in `seconds` how long one of its fits takes. The study says
in `time_left` which share of its hours is left, if hours limit it.

Where the network is a choice, each network has its own parameters, and one model knows them all. In the beginning the
networks are tried equally often, or, where hours count, for equally long. Later what is expected to be gained is
divided by the cost of a fit, to a power that falls from 1 to 0 with the time that is left: cheap networks are looked at
first, and at the end only what is best counts (Lee, Perrone, Archambeau and Seeger, arXiv:2003.10870). Other parameters
that some trials lack (conditional ones) are drawn at random, as Optuna's own Gaussian process does.

Of trials that failed the model knows nothing; failures.py says where none is tried for their sake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import intersection_search_space
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from orchestrator.search.samplers.encoding import Array, ChoiceOfNetworks, SpaceEncoding
from orchestrator.search.samplers.expected_gain import suggest
from orchestrator.search.samplers.failures import first_likely_to_work, likely_failures
from orchestrator.search.samplers.inducing_points import Model, fitted
from orchestrator.search.samplers.past_trials import BY_FOLD, FOLD_WEIGHTS, FOLDS, SECONDS
from orchestrator.search.space.keys import NETWORK

TIME_LEFT = "time_left"  # user attribute of a study
NUM_DRAWS = 200  # random configurations, of which the first that is likely to work is tried


class FoldAwareSampler(BaseSampler):
    """Suggests the configuration of highest expected gain; trials in flight count at their expected value."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return space_of(study.get_trials(deepcopy=False))[0]

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """{} for random draws: in the beginning, while twice as many trials as parameters are not there."""
        others = [one for one in study.get_trials(deepcopy=False) if one.number != trial.number]
        finished = [one for one in others if one.state == TrialState.COMPLETE]
        if not search_space:
            return {}
        box, time_left = encoding(search_space, others), study.user_attrs.get(TIME_LEFT)
        failed, in_flight = (
            np.array([box.point(one.params) for one in others if one.state == state and _has_place(box, one)])
            for state in (TrialState.FAIL, TrialState.RUNNING)
        )
        if len(finished) < max(2, 2 * box.num_parameters):
            network = _spread(box, others, counts_time=time_left is not None)
            if not len(failed) or not finished:
                return network
            worked = box.points([one.params for one in finished])
            return box.params(first_likely_to_work(self._anywhere(box, network), worked, failed))
        seen = _seen(box, finished)
        model = fitted(*seen)
        if len(in_flight):
            model = model.seeing(in_flight)
        log_cost = _log_cost(box, finished, time_left) if isinstance(box, ChoiceOfNetworks) else None
        avoided = likely_failures(seen[0], failed)
        return box.params(suggest(model, self.rng, box, log_cost=log_cost, avoided=avoided))

    def _anywhere(self, box: SpaceEncoding, network: Mapping[str, Any]) -> Array:
        """Points (NUM_DRAWS, D) of random configurations, of this network where it is a choice."""
        points = box.lengths * self.rng.random((NUM_DRAWS, len(box.lengths)))
        if isinstance(box, ChoiceOfNetworks):
            points[:, box.names == box.key] = box.columns[box.key].place(network[box.key])
        return box.snap(points)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.random.sample_independent(study, trial, param_name, param_distribution)


class PosteriorMeans:
    """Posterior mean Dice of finished trials, and of single trials with scores newer than the model."""

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        """trials: in order of their numbers. While there are few, no model is fitted."""
        self.finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        space, _ = space_of(self.finished)
        self.model: Model | None = None
        if not space:
            return
        self.box = encoding(space, self.finished)
        if len(self.finished) > 3 * self.box.num_parameters:
            self.seen = _seen(self.box, self.finished)
            self.model = fitted(*self.seen)
            self.values = self.model.over_all_folds(self.seen[1], self.seen[3])

    def all(self) -> list[float]:
        """Posterior mean of every finished trial, in order; [] while there are few."""
        return [] if self.model is None else self.model.mean(self.seen[0]).tolist()

    def of(self, trial: FrozenTrial, before: int | None) -> float:
        """Posterior mean of a trial with scores newer than the model; before: its index in `finished`."""
        assert self.model is not None
        mean, sd = (float(part[0]) for part in self.model.predict(self.box.point(trial.params)[None]))
        shape, weights = self.seen[3:]
        by_fold = None if shape is None else _by_fold([trial], shape.shape[1])
        folds = float(_num_folds([trial], by_fold, weights)[0])
        value = float(self.model.over_all_folds(np.array([trial.value or 0.0]), by_fold)[0])
        known = 0.0 if before is None else self.seen[2][before]
        if before is not None and folds == known and value == self.values[before]:
            return mean  # nothing is known since
        if before is not None and folds > known:
            value = (folds * value - known * self.values[before]) / (folds - known)
        noise = self.model.unit**2 * self.model.noise / (folds - known if folds > known else 1.0)
        return mean + sd**2 / (sd**2 + noise) * (value - mean)


def encoding(space: Mapping[str, BaseDistribution], trials: Sequence[FrozenTrial]) -> SpaceEncoding:
    """Encoding of a space; with several networks, the trials show which parameters each network has."""
    of = space_of(trials)[1]
    return ChoiceOfNetworks(NETWORK, space, of) if of else SpaceEncoding(space)


def space_of(trials: Sequence[FrozenTrial]) -> tuple[dict[str, BaseDistribution], dict[Any, set[str]]]:
    """Parameters that a model can know, and, where the network is a choice, which of them each network has.

    They are those that all finished trials have; of several networks, those that all finished trials of a network have,
    or, where it has none yet, all its trials in flight.
    """
    shared = _shared_space(trials)
    finished = {one.params.get(NETWORK) for one in trials if one.state == TrialState.COMPLETE}
    telling = (o for o in trials if o.state == TrialState.COMPLETE or o.params.get(NETWORK) not in finished)
    distinct = {(id(one.distributions), one.params.get(NETWORK)): one for one in telling}.values()
    of = networks_in([(one.params, one.distributions) for one in distinct])
    if not of:
        return shared, {}
    space = dict(shared)
    for one in distinct:
        names = sorted(of[one.params[NETWORK]]) if NETWORK in one.params else []
        space |= {name: one.distributions[name] for name in names}
    return space, of


def networks_in(
    seen: Sequence[tuple[Mapping[str, Any], Mapping[str, BaseDistribution]]],
) -> dict[Any, set[str]]:
    """Which parameters each network has in all these configurations (params and distributions); {} without a choice.

    A network without a configuration has those that all others share.
    """
    choices = [found[NETWORK] for _, found in seen if NETWORK in found and not found[NETWORK].single()]
    if not choices or not isinstance(choices[0], CategoricalDistribution):
        return {}
    of: dict[Any, set[str]] = {}
    for params, distributions in seen:
        if (network := params.get(NETWORK)) is not None:
            names = {name for name, found in distributions.items() if not found.single()}
            of[network] = of[network] & names if network in of else names
    shared = set.intersection(*of.values())
    return {network: of.get(network, shared) for network in choices[0].choices}


def _shared_space(trials: Sequence[FrozenTrial]) -> dict[str, BaseDistribution]:
    """Parameters that all finished trials have; most share one dict of them, which is looked at once."""
    finished = {id(one.distributions): one for one in trials if one.state == TrialState.COMPLETE}
    space = intersection_search_space(list(finished.values()))
    return {name: found for name, found in space.items() if not found.single()}


def _has_place(box: SpaceEncoding, trial: FrozenTrial) -> bool:
    """Whether a trial has the parameters that a configuration needs to have a place."""
    needed = (
        box.of.get(trial.params.get(NETWORK), box.columns)
        if isinstance(box, ChoiceOfNetworks)
        else box.columns
    )
    return trial.params.keys() >= set(needed)


def _spread(box: SpaceEncoding, trials: Sequence[FrozenTrial], *, counts_time: bool) -> dict[str, Any]:
    """Parameters of the next random trial: the network tried least, by trials or by time; {} for all else."""
    if not isinstance(box, ChoiceOfNetworks):
        return {}
    tried = dict.fromkeys(box.of, 0.0)
    seconds = _seconds_by_network(trials) if counts_time else {}
    for one in trials:
        if one.params.get(NETWORK) in tried:
            network = one.params[NETWORK]
            tried[network] += one.user_attrs.get(FOLDS, 1) * seconds.get(network, 1.0) if counts_time else 1
    return {NETWORK: min(tried, key=lambda network: tried[network])}


def _seconds_by_network(trials: Sequence[FrozenTrial]) -> dict[Any, float]:
    """Mean time of a fit of each network that has one."""
    known: dict[Any, list[float]] = {}
    for one in trials:
        if SECONDS in one.user_attrs:
            known.setdefault(one.params.get(NETWORK), []).append(one.user_attrs[SECONDS])
    return {network: float(np.mean(values)) for network, values in known.items()}


def _log_cost(
    box: SpaceEncoding, finished: Sequence[FrozenTrial], time_left: float | None
) -> Callable[[Array], Array] | None:
    """Logarithm of the cost that improvement is divided by: a fit's seconds to the power of the time that is left."""
    timed = [one for one in finished if SECONDS in one.user_attrs]
    if not time_left or len(timed) < 2:
        return None
    points, folds = _seen(box, timed)[0], np.ones(len(timed))
    logs = np.log([one.user_attrs[SECONDS] for one in timed])
    model = fitted(points, logs, folds)
    return lambda asked: time_left * model.mean(asked)


def _seen(
    box: SpaceEncoding, finished: Sequence[FrozenTrial]
) -> tuple[Array, Array, Array, Array | None, Array | None]:
    """Points (N, D), values (N,), folds (N,) that they rest on, scores by fold (N, F) where they are known, and the
    weights (F,) of folds where they differ: what `fitted` takes."""
    points = box.points([trial.params for trial in finished])
    values = np.array([trial.value for trial in finished], dtype=np.float64)
    largest = max((max(trial.user_attrs.get(BY_FOLD) or [-1]) for trial in finished), default=-1)
    by_fold = _by_fold(finished, largest + 1) if largest > 0 else None
    known = next((o.user_attrs[FOLD_WEIGHTS] for o in finished if FOLD_WEIGHTS in o.user_attrs), None)
    weights = None if known is None or by_fold is None else np.array(known[: largest + 1], dtype=np.float64)
    return points, values, _num_folds(finished, by_fold, weights), by_fold, weights


def _num_folds(trials: Sequence[FrozenTrial], by_fold: Array | None, weights: Array | None) -> Array:
    """Folds (N,) that values rest on, a large one as more than one."""
    folds = np.array([float(trial.user_attrs.get(FOLDS, 1)) for trial in trials])
    if by_fold is None or weights is None:
        return folds
    there = np.isfinite(by_fold)
    result: Array = np.where(there.any(axis=1), there @ weights, folds)
    return result


def _by_fold(trials: Sequence[FrozenTrial], num_folds: int) -> Array:
    """Scores (N, F), nan where there is none; those of folds that are not among so many are left out."""
    found = np.full((len(trials), num_folds), np.nan)
    for row, trial in zip(found, trials, strict=True):
        for fold, score in (trial.user_attrs.get(BY_FOLD) or {}).items():
            if fold < num_folds:
                row[fold] = score
    return found
