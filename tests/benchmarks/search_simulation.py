"""How many fits a search needs in worlds whose best setting is known, raced and not.

    python tests/benchmarks/search_simulation.py
    python tests/benchmarks/search_simulation.py --repetitions 60 --worlds "as in V12" --json

Worlds are those of orchestrator/search/worlds.py; every study of a repetition meets the same one, drawn anew for each
repetition. Regret is what the setting that a study would name has lost to the best point there is, in Dice points. Fits
count all training, the finalists' last folds too.

plain            What a user would write: Optuna's TPE, five folds to the end for each setting; threshold swept.
plain, sampled   The same where the threshold is one more parameter to sample.
plain, GP        Our Gaussian process, five folds to the end: what the sampler alone is worth.
raced, TPE       `paired` with Optuna's TPE: what the race alone is worth.
raced            `paired` with the Gaussian process: ours.

The second table asks after how many fits each reaches what `plain` and `plain, sampled` reach at 300 (straight lines
between budgets; `>` where it does not get there). "Best stopped" is the share of studies that had stopped for good
the truly best of all settings they had tried. Nothing is asserted; tests/search/test_worlds.py holds a
short form.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import optuna
from optuna.samplers import TPESampler
from rich.console import Console
from rich.table import Table

from orchestrator.search.race_rules import Race, RuleName
from orchestrator.search.worlds import WORLDS, Ask, Outcome, Study, World, ask_optuna, ask_surrogate

PLAIN_FITS = (60, 100, 150, 300)
RACED_FITS = (20, 30, 45, 60, 80, 100)
TPE = ask_optuna(lambda seed: TPESampler(seed=seed))


@dataclass(frozen=True)
class Way:
    """A way to search."""

    name: str
    rule: RuleName
    ask: Ask
    budgets: tuple[int, ...]
    believes: bool = False  # the ranks follow the Gaussian process
    more_parameters: int = 0


WAYS = (
    Way("plain", "none", TPE, PLAIN_FITS),
    Way("plain, sampled", "none", TPE, PLAIN_FITS, more_parameters=1),
    Way("plain, GP", "none", ask_surrogate, PLAIN_FITS[:-1], believes=True),
    Way("raced, TPE", "paired", TPE, RACED_FITS),
    Way("raced", "paired", ask_surrogate, RACED_FITS, believes=True),
)


def search(world: World, way: Way, lanes: int, repetition: int) -> list[Outcome]:
    """One study, seen at every budget."""
    larger = replace(world, num_parameters=world.num_parameters + way.more_parameters)
    instance = larger.draw(repetition)
    race = Race(way.rule, instance.groups)
    study = Study(instance, race, way.ask, lanes=lanes, seed=repetition, believes=way.believes)
    return study.run(way.budgets)


def measure(world: World, way: Way, lanes: int, repetitions: int) -> list[dict[str, object]]:
    """One row a budget."""
    studies = [search(world, way, lanes, repetition) for repetition in range(repetitions)]
    rows: list[dict[str, object]] = []
    for at in range(len(way.budgets)):
        found = [outcomes[at] for outcomes in studies]
        regret = 100 * np.array([one.regret for one in found])
        rows.append(
            {
                "world": world.name,
                "search": way.name,
                "fits": float(np.mean([one.fits for one in found])),
                "settings": float(np.mean([one.num_settings for one in found])),
                "regret": float(regret.mean()),
                "error": float(regret.std(ddof=1) / np.sqrt(repetitions)),
                "quartiles": np.quantile(regret, [0.25, 0.5, 0.75]).tolist(),
                "best_stopped": float(np.mean([one.best_was_stopped for one in found])),
            }
        )
    return rows


def fits_to_reach(rows: Sequence[dict[str, object]], regret: float) -> float:
    """Fits after which the mean regret is as low, on straight lines between budgets; inf if never."""
    fits, regrets = np.array([[float(row[key]) for row in rows] for key in ("fits", "regret")])  # type: ignore[arg-type]
    lower = np.flatnonzero(regrets <= regret)
    if len(lower) == 0:
        return float("inf")
    first = int(lower[0])
    if first == 0:
        return float(fits[0])
    share = (regrets[first - 1] - regret) / (regrets[first - 1] - regrets[first])
    return float(fits[first - 1] + share * (fits[first] - fits[first - 1]))


def savings(rows: Sequence[dict[str, object]], world: World) -> list[dict[str, object]]:
    """How many times fewer fits every search needs for the last regret of the two plain ones."""
    of = {
        way.name: [row for row in rows if (row["world"], row["search"]) == (world.name, way.name)]
        for way in WAYS
    }
    return [
        {
            "world": world.name,
            "search": name,
            "than": plain,
            "fits": fits_to_reach(found, float(of[plain][-1]["regret"])),  # type: ignore[arg-type]
            "times": float(of[plain][-1]["fits"]) / fits_to_reach(found, float(of[plain][-1]["regret"])),  # type: ignore[arg-type]
        }
        for plain in ("plain", "plain, sampled")
        for name, found in of.items()
        if not name.startswith("plain")
    ]


def show(rows: Sequence[dict[str, object]], saved: Sequence[dict[str, object]], repetitions: int) -> None:
    table = Table("world", "search", title=f"{repetitions} repetitions; regret in Dice points")
    for heading in ("fits", "settings", "mean regret", "median", "quartiles", "best stopped"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        low, middle, high = row["quartiles"]  # type: ignore[misc]
        table.add_row(
            str(row["world"]),
            str(row["search"]),
            f"{row['fits']:.0f}",
            f"{row['settings']:.0f}",
            f"{row['regret']:.3f} ± {row['error']:.3f}",
            f"{middle:.3f}",  # type: ignore[has-type]
            f"{low:.3f} to {high:.3f}",  # type: ignore[has-type]
            f"{100 * float(row['best_stopped']):.0f} %",  # type: ignore[arg-type]
        )
    second = Table("world", "search", "as good as, at 300 fits", title="fits for the same mean regret")
    for heading in ("fits", "times fewer"):
        second.add_column(heading, justify="right", no_wrap=True)
    for row in saved:
        reached = np.isfinite(float(row["fits"]))  # type: ignore[arg-type]
        numbers = (f"{row['fits']:.0f}", f"{row['times']:.1f}") if reached else (f"> {RACED_FITS[-1]}", "")
        second.add_row(str(row["world"]), str(row["search"]), str(row["than"]), *numbers)
    console = Console()
    console.width = max(console.width, 120)
    console.print(table)
    console.print(second)


def main() -> None:
    names = [world.name for world in WORLDS]
    parser = argparse.ArgumentParser(description="Fits that a search needs in simulated worlds.")
    parser.add_argument("--repetitions", type=int, default=20, help="studies a row")
    parser.add_argument("--worlds", nargs="+", choices=names, default=names)
    parser.add_argument("--lanes", type=int, default=1, help="fits in flight at once")
    parser.add_argument("--json", action="store_true", help="every number, for programs")
    options = parser.parse_args()
    if options.repetitions < 2 or options.lanes < 1:
        parser.error("--repetitions needs to be 2 or more, --lanes 1 or more")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows: list[dict[str, object]] = []
    saved: list[dict[str, object]] = []
    for world in (world for world in WORLDS if world.name in options.worlds):
        rows += [row for way in WAYS for row in measure(world, way, options.lanes, options.repetitions)]
        saved += savings(rows, world)
    if options.json:
        print(json.dumps({"studies": rows, "savings": saved}, indent=1))
    else:
        show(rows, saved, options.repetitions)


if __name__ == "__main__":
    main()
