"""Ways to search that are compared in simulated studies: ours, and what else one would use, each tuned as ours is.

All sweep the threshold, but `TPE, threshold sampled`; all begin with the baseline, and every Gaussian process with as
many random configurations, two a parameter. `five folds`: every configuration is trained on all of them. `without
noise`: a bound, for no way to spend fits on folds learns more from a fit. Configurations that fail, as memory runs out,
are shown to Optuna's samplers with the lowest score so far, as `search` shows them; BoTorch models what works.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from baseline_rules import Forgiving, Median, Screened, Wilcoxon
from epoch_races import LEAST_EPOCHS, REDUCTION, EpochWay, with_optuna, with_priorband, with_promotions
from numpy.typing import NDArray
from optuna.pruners import BasePruner, HyperbandPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler
from proposers import (
    ask_botorch,
    ask_by_network,
    ask_optuna,
    ask_over_networks,
    ask_surrogate,
    predictions,
    predictions_botorch,
    predictions_by_network,
    predictions_over_networks,
)

from orchestrator.search.race.rules import Rule
from orchestrator.search.samplers.registry import SAMPLERS
from orchestrator.search.simulated.memory import Proposer, SeenTrials
from orchestrator.search.simulated.worlds import Point

FITS = (20, 30, 40, 60, 80, 100, 150, 200, 300)
# Finalists come to these.
RACED_FITS = (10, 20, 30, 40, 60, 80, 100, 150, 190, 290)
SCREENED_FITS = tuple(fits - 20 for fits in FITS if fits > 20)
SECONDS = (300, 500, 800, 1500)  # of lanes, of which a fit of the cheapest network takes one


@dataclass(frozen=True)
class Way:
    """A way to search."""

    rule: str | Rule  # a name that `search` offers, or one of the literature
    ask: Proposer
    budgets: tuple[int, ...] = FITS
    # What trials are ranked by, and one is named by; None: scores.
    predict: Callable[[SeenTrials], NDArray[np.float64]] | None = None
    more_parameters: int = 0
    knows_truth: bool = False  # one fit of one fold, without noise, shows what a configuration is worth


def _gp(seed: int, num_parameters: int) -> BaseSampler:
    return GPSampler(seed=seed, n_startup_trials=2 * num_parameters)


def _tpe(seed: int, num_parameters: int) -> BaseSampler:
    return SAMPLERS["tpe"].make(seed, 1)


def ask_gp(seen: SeenTrials, seed: int) -> Point:
    """Optuna's Gaussian process."""
    return ask_optuna(lambda given: _gp(given, len(seen.space)))(seen, seed)


def _halving(num_epochs: int) -> BasePruner:
    return SuccessiveHalvingPruner(min_resource=LEAST_EPOCHS, reduction_factor=REDUCTION)


def _hyperband(num_epochs: int) -> BasePruner:
    return HyperbandPruner(LEAST_EPOCHS, num_epochs, REDUCTION)


# Over epochs: on five folds at once, or on one, and then all of them for the best five.
EPOCH_WAYS: Mapping[str, EpochWay] = {
    "GP, ASHA over epochs, five folds": EpochWay(with_optuna(_gp, _halving), 5, 1, FITS)
} | {
    f"{name}, {folds}": EpochWay(steps, *chosen)
    for name, steps in {
        "TPE, ASHA over epochs": with_optuna(_tpe, _halving),
        "TPE, HyperBand": with_optuna(_tpe, _hyperband),
        "ASHA, promoting": with_promotions,
        "PriorBand": with_priorband,
    }.items()
    for folds, chosen in {
        "five folds": (5, 1, FITS),
        "one fold": (1, 5, SCREENED_FITS),
    }.items()
}
TPE = ask_optuna(lambda seed: _tpe(seed, 0))
WAYS: Mapping[str, Way] = {
    "ours": Way("paired", ask_surrogate, RACED_FITS, predictions),
    "ours, five folds": Way("none", ask_surrogate, predict=predictions),
    "race, TPE": Way("paired", TPE, RACED_FITS),
    "TPE, five folds": Way("none", TPE),
    "TPE, threshold sampled": Way("none", TPE, more_parameters=1),
    "GP, five folds": Way("none", ask_gp),
    "GP, Wilcoxon": Way(Wilcoxon(), ask_gp, RACED_FITS),
    "TPE, Wilcoxon": Way(Wilcoxon(), TPE, RACED_FITS),
    "GP, screened": Way(Screened(), ask_gp, SCREENED_FITS),
    "GP, asha": Way("asha", ask_gp, RACED_FITS),
    "qLogNEI, five folds": Way("none", ask_botorch),
    "qLogNEI, chosen by its model": Way("none", ask_botorch, predict=predictions_botorch),
    "ours, without noise": Way("none", ask_surrogate, knows_truth=True),
    "GP, forgiving": Way(Forgiving(), ask_gp, RACED_FITS),
    "GP, median": Way(Median(), ask_gp, RACED_FITS),
}
# Over networks; the baseline of each is trained on all folds first, by every way.
_OURS = ask_over_networks(lambda seed: SAMPLERS["surrogate"].make(seed, 1))
_TPE = ask_over_networks(lambda seed: _tpe(seed, 0))
NETWORK_WAYS: Mapping[str, Way] = {
    "ours": Way("paired", _OURS, SECONDS, predictions_over_networks),
    "ours, five folds": Way("none", _OURS, SECONDS, predictions_over_networks),
    "race, TPE": Way("paired", _TPE, SECONDS),
    "TPE, five folds": Way("none", _TPE, SECONDS),
    "GP, five folds": Way("none", ask_over_networks(lambda seed: _gp(seed, 4)), SECONDS),
    "race, random": Way("paired", ask_over_networks(lambda seed: SAMPLERS["random"].make(seed, 1)), SECONDS),
    "GP, a study per network": Way("none", ask_by_network(ask_gp), SECONDS),
    "qLogNEI, a study per network": Way(
        "none", ask_by_network(ask_botorch), SECONDS, predictions_by_network(predictions_botorch)
    ),
}
DEFAULT = (
    "ours",
    "ours, five folds",
    "TPE, five folds",
    "GP, five folds",
    "GP, Wilcoxon",
    "GP, screened",
    "GP, a study per network",
)


def fits_for(regret: float, fits: np.ndarray, regrets: np.ndarray) -> float:
    """Fits after which the mean regret is as low and stays so, on straight lines between budgets; inf: never."""
    above = np.flatnonzero(regrets > regret)
    if len(above) == 0:
        return float(fits[0])
    last = int(above[-1])
    if last + 1 == len(fits):
        return float("inf")
    share = (regrets[last] - regret) / (regrets[last] - regrets[last + 1])
    return float(fits[last] + share * (fits[last + 1] - fits[last]))
