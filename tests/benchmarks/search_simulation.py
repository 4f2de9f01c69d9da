"""How much training a search needs in worlds whose best setting is known, raced and not.

    python tests/benchmarks/search_simulation.py
    python tests/benchmarks/search_simulation.py --repetitions 60 --worlds "as in V12" --lanes 1 8 --out table.json

Worlds are those of tests/support/known_worlds.py; every study of a repetition meets the same one, drawn anew
for each repetition. Regret is what the setting that a study would name, by its score as the engine does, has lost to
the best point there is, in Dice points. Fits and epochs count all training: fits that were cut, and the finalists'
last folds.

plain            What a user would write: Optuna's TPE, five folds to the end for each setting; threshold swept.
plain, sampled   The same where the threshold is one more parameter to sample.
raced, TPE       `paired` with Optuna's TPE: what the race alone is worth.
raced            `paired` with the Gaussian process: ours.

With --baselines also `forgiving`, `median` and `wilcoxon`, rules of the literature, each with Optuna's TPE.

The second table asks after how much training each reaches what `plain` and `plain, sampled` reach at 300 fits (straight
lines between budgets; `>` where it does not get there). "Best stopped" is the share of studies that had stopped for
good the truly best of all settings they had tried, with a 95 % interval (Clopper and Pearson); "cut": within a fit.
Nothing is asserted; tests/search/simulated/test_worlds.py holds a short form.

Printed with 60 repetitions (half an hour of CPU time), `raced` against what the plain ones have after 300 fits:

    world              as `plain` after      as `plain, sampled`    regret with 106 to 109 fits, and of `plain` with 300
    as in V12          42 fits, 7.2 times    8.2 times fewer        0.111 ± 0.010    0.203 ± 0.019
    sequences alike    45       6.6          8.3                    0.149 ± 0.013    0.231 ± 0.023
    strong folds       36       8.4          8.4                    0.178 ± 0.020    0.332 ± 0.026
    six parameters     63       4.8          5.2                    0.246 ± 0.015    0.648 ± 0.039
    noisy fits         47       6.4          8.3                    0.210 ± 0.024    0.311 ± 0.030
    choices            93       3.2          7.9                    0.199 ± 0.028    0.204 ± 0.026
    few sequences      50       6.0          8.4                    0.289 ± 0.029    0.465 ± 0.047
    curves alike       53       5.7          7.9                    0.146 ± 0.016    0.203 ± 0.019
    curves cross       49       6.1          8.0                    0.133 ± 0.013    0.203 ± 0.019
    as recorded        79       3.8          6.7                    0.293 ± 0.027    0.358 ± 0.036

The best was stopped in at most 1 of 60 studies (0 to 9 %), in "choices" in 1 to 3 (0 to 14 %), by budget; it was never
cut within a fit. "Six parameters" has hardly begun at 48 fits (1.467): more than a dozen settings are random there.
`raced, TPE` does not come to the regret of `plain` in any world within its budgets.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))

import numpy as np
import optuna
from baseline_rules import BASELINE_RULES
from known_worlds import OVER_NETWORKS, WORLDS
from optuna.exceptions import ExperimentalWarning
from proposers import (
    ask_optuna,
    ask_over_networks,
    ask_surrogate,
    predictions,
    predictions_over_networks,
)
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

from orchestrator.search.race.rules import Race, Rule
from orchestrator.search.samplers.registry import SAMPLERS
from orchestrator.search.simulated.memory import Proposer
from orchestrator.search.simulated.study import Outcome, SimulatedStudy
from orchestrator.search.simulated.worlds import World

PLAIN_FITS = (60, 100, 150, 300)
RACED_FITS = (30, 45, 60, 80, 100)
SECONDS = (300, 800)
TPE = ask_optuna(lambda seed: SAMPLERS["tpe"].make(seed, 1))
TPE_OVER_NETWORKS = ask_over_networks(lambda seed: SAMPLERS["tpe"].make(seed, 1))
OURS_OVER_NETWORKS = ask_over_networks(lambda seed: SAMPLERS["surrogate"].make(seed, 1))
RANDOM_OVER_NETWORKS = ask_over_networks(lambda seed: SAMPLERS["random"].make(seed, 1))
Row = dict[str, Any]


@dataclass(frozen=True)
class Way:
    """A way to search."""

    name: str
    rule: str | Rule  # a name that `search` offers, or a baseline
    ask: Proposer
    budgets: tuple[int, ...]
    believes: bool = False  # the ranks follow the Gaussian process
    more_parameters: int = 0


WAYS = (
    Way("plain", "none", TPE, PLAIN_FITS),
    Way("plain, sampled", "none", TPE, PLAIN_FITS, more_parameters=1),
    Way("raced, TPE", "paired", TPE, RACED_FITS),
    Way("raced", "paired", ask_surrogate, RACED_FITS, believes=True),
)
NETWORK_WAYS = (
    Way("plain", "none", TPE_OVER_NETWORKS, SECONDS),
    Way("raced, random", "paired", RANDOM_OVER_NETWORKS, SECONDS, believes=True),
    Way("raced, TPE", "paired", TPE_OVER_NETWORKS, SECONDS),
    Way(
        "raced, blind to cost",
        "paired",
        lambda seen, seed: OURS_OVER_NETWORKS(replace(seen, time_left=None), seed),
        SECONDS,
        believes=True,
    ),
    Way("raced", "paired", OURS_OVER_NETWORKS, SECONDS, believes=True),
)
BASELINES = tuple(Way(f"{name}, TPE", rule(), TPE, RACED_FITS) for name, rule in BASELINE_RULES.items())


def search(world: World, way: Way, lanes: int, repetition: int) -> list[Outcome]:
    """One study, seen at every budget."""
    larger = replace(world, num_parameters=world.num_parameters + way.more_parameters)
    instance = larger.draw(repetition)
    race = Race(way.rule, instance.groups)
    predict = predictions if way.believes else None
    study = SimulatedStudy(instance, race, way.ask, lanes=lanes, seed=repetition, predict=predict)
    return study.run(way.budgets)


def search_networks(way: Way, lanes: int, repetition: int) -> list[Outcome]:
    """One study over networks, seen at every budget of seconds, one of which a fit of the cheapest network takes."""
    instance = OVER_NETWORKS.draw(repetition)
    predict = predictions_over_networks if way.believes else None
    race = Race(way.rule, instance.groups)
    study = SimulatedStudy(instance, race, way.ask, lanes=lanes, seed=repetition, predict=predict)
    return study.run_seconds(way.budgets)


def measure_networks(way: Way, lanes: int, repetitions: int) -> list[Row]:
    """One row a budget."""
    studies = [search_networks(way, lanes, repetition) for repetition in range(repetitions)]
    return [
        _row(OVER_NETWORKS, way, lanes, [outcomes[at] for outcomes in studies]) for at in range(len(SECONDS))
    ]


def measure(world: World, way: Way, lanes: int, repetitions: int) -> list[Row]:
    """One row a budget."""
    studies = [search(world, way, lanes, repetition) for repetition in range(repetitions)]
    return [_row(world, way, lanes, [outcomes[at] for outcomes in studies]) for at in range(len(way.budgets))]


def _row(world: World, way: Way, lanes: int, found: Sequence[Outcome]) -> Row:
    regret = 100 * np.array([one.regret for one in found])
    stopped = sum(one.best_was_stopped for one in found)
    interval = binomtest(stopped, len(found)).proportion_ci()
    return {
        "world": world.name,
        "lanes": lanes,
        "search": way.name,
        "fits": float(np.mean([one.fits for one in found])),
        "epochs": float(np.mean([one.epochs for one in found])),
        "seconds": float(np.mean([one.seconds for one in found])),
        "settings": float(np.mean([one.num_configurations for one in found])),
        "regret": float(regret.mean()),
        "error": float(regret.std(ddof=1) / np.sqrt(len(found))),
        "quartiles": np.quantile(regret, [0.25, 0.5, 0.75]).tolist(),
        "best_stopped": stopped / len(found),
        "best_stopped_interval": [float(interval.low), float(interval.high)],
        "best_cut": float(np.mean([one.best_was_cut for one in found])),
    }


def needed(rows: Sequence[Row], regret: float, what: str) -> float:
    """Fits or epochs after which the mean regret is as low, on straight lines between budgets; inf if never."""
    spent, regrets = np.array([[row[key] for row in rows] for key in (what, "regret")])
    lower = np.flatnonzero(regrets <= regret)
    if len(lower) == 0:
        return float("inf")
    first = int(lower[0])
    if first == 0:
        return float(spent[0])
    share = (regrets[first - 1] - regret) / (regrets[first - 1] - regrets[first])
    return float(spent[first - 1] + share * (spent[first] - spent[first - 1]))


def savings(rows: Sequence[Row]) -> list[Row]:
    """How many times less every search of one world needs for the last regret of the two plain ones."""
    of = {
        name: [row for row in rows if row["search"] == name]
        for name in dict.fromkeys(r["search"] for r in rows)
    }
    found = []
    for plain in ("plain", "plain, sampled"):
        last = of[plain][-1]
        for name in (name for name in of if not name.startswith("plain")):
            fits, epochs = (needed(of[name], last["regret"], what) for what in ("fits", "epochs"))
            found.append(
                {
                    "world": last["world"],
                    "lanes": last["lanes"],
                    "search": name,
                    "than": plain,
                    "fits": fits,
                    "times_fits": last["fits"] / fits,
                    "times_epochs": last["epochs"] / epochs,
                    "final_regret": of[name][-1]["regret"] - last["regret"],
                }
            )
    return found


def show(rows: Sequence[Row], saved: Sequence[Row], repetitions: int) -> None:
    table = Table("world", "lanes", "search", title=f"{repetitions} repetitions; regret in Dice points")
    for heading in (
        "fits",
        "epochs",
        "seconds",
        "settings",
        "mean regret",
        "quartiles",
        "best stopped",
        "cut",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        low, middle, high = row["quartiles"]
        least, most = row["best_stopped_interval"]
        table.add_row(
            row["world"],
            str(row["lanes"]),
            row["search"],
            f"{row['fits']:.0f}",
            f"{row['epochs']:.0f}",
            f"{row['seconds']:.0f}",
            f"{row['settings']:.0f}",
            f"{row['regret']:.3f} ± {row['error']:.3f}",
            f"{low:.2f} {middle:.2f} {high:.2f}",
            f"{100 * row['best_stopped']:.0f} % ({100 * least:.0f} to {100 * most:.0f})",
            f"{100 * row['best_cut']:.0f} %",
        )
    second = Table("world", "lanes", "search", "than, at 300 fits", title="training for the same mean regret")
    for heading in ("fits", "times fewer fits", "times fewer epochs", "regret at the end, less"):
        second.add_column(heading, justify="right", no_wrap=True)
    for row in saved:
        reached = np.isfinite(row["fits"])
        second.add_row(
            row["world"],
            str(row["lanes"]),
            row["search"],
            row["than"],
            f"{row['fits']:.0f}" if reached else f"> {RACED_FITS[-1]}",
            f"{row['times_fits']:.1f}" if reached else "",
            f"{row['times_epochs']:.1f}" if reached else "",
            f"{row['final_regret']:+.3f}",
        )
    console = Console()
    console.width = max(console.width, 130)
    console.print(table)
    console.print(second)


def main() -> None:
    names = [world.name for world in (*WORLDS, OVER_NETWORKS)]
    parser = argparse.ArgumentParser(description="Training that a search needs in simulated worlds.")
    parser.add_argument("--repetitions", type=int, default=20, help="studies a row")
    parser.add_argument("--worlds", nargs="+", choices=names, default=names)
    parser.add_argument("--lanes", type=int, nargs="+", default=[1], help="fits in flight at once")
    parser.add_argument("--out", type=Path, help="every number as JSON, written after every world")
    parser.add_argument("--baselines", action="store_true", help="measure races of the literature, too")
    options = parser.parse_args()
    ways = (*WAYS, *BASELINES) if options.baselines else WAYS
    if options.repetitions < 2 or min(options.lanes) < 1:
        parser.error("--repetitions needs to be 2 or more, --lanes 1 or more")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", ExperimentalWarning)  # of TPE's groups
    rows: list[Row] = []
    saved: list[Row] = []
    for lanes in options.lanes:
        for world in (world for world in WORLDS if world.name in options.worlds):
            found = [row for way in ways for row in measure(world, way, lanes, options.repetitions)]
            rows, saved = rows + found, saved + savings(found)
            if options.out:
                options.out.write_text(json.dumps({"studies": rows, "savings": saved}, indent=1) + "\n")
        if OVER_NETWORKS.name in options.worlds:
            rows += [row for way in NETWORK_WAYS for row in measure_networks(way, lanes, options.repetitions)]
    show(rows, saved, options.repetitions)


if __name__ == "__main__":
    main()
