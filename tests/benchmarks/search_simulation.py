"""How much training a search needs in worlds whose best configuration is known: ours, and the strongest alternatives.

    python tests/benchmarks/search_simulation.py --out search.jsonl
    python tests/benchmarks/search_simulation.py --out search.jsonl --repetitions 60 --worlds "as recorded" \
        --ways ours "GP, five folds" "qLogNEI, five folds"
    python tests/benchmarks/search_simulation.py --out search.jsonl --show

Worlds are those of tests/support/known_worlds.py, ways to search those of search_ways.py; every study of a repetition
meets the same world, drawn anew for each. Ways that race over epochs need a world with epochs, and count a fit by the
epochs that it had; `PriorBand` needs neural-pipeline-search, `qLogNEI` needs botorch. Each study is a line of --out and
is not repeated: run again with more repetitions, ways or worlds, or after an interruption, it goes on. A study of 300
fits takes 2 to 10 s.

Regret is what a configuration has lost to the best point there is, in Dice points: `named`, of the one that the way
would name, which has the highest score, and where a model ranks, the one that it expects most of (ours re-evaluates it
before it names it); `by score`, of the one with the highest score in any case; `tried`, of the best of all that were
tried. Fits count all training: those that were cut, and the last folds of finalists; those that fail at once, as
memory runs out, count nothing. "Best stopped" is the share of studies that had stopped the truly best of all
configurations for good, with a 95 % interval (Clopper and Pearson).

The second table says after how many fits each way is at a regret for good (straight lines between budgets), and how
many times as many each of the others needs as ours. Nothing is asserted; tests/search/simulated/test_worlds.py
holds a short form.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))

import numpy as np
import optuna
from known_worlds import OVER_NETWORKS, WORLDS
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest
from search_ways import DEFAULT, EPOCH_WAYS, NETWORK_WAYS, WAYS, fits_for

from orchestrator.search.race.rules import Race
from orchestrator.search.simulated.study import Outcome, SimulatedStudy
from orchestrator.search.simulated.worlds import World

MOST_FAILED = (
    100  # in a row, before a study ends: other ways need more patience than ours, which `search` grants 10
)
LEVELS = (0.6, 0.4, 0.3, 0.2, 0.15, 0.1)  # of regret, Dice points
Line = dict[str, Any]


def search(world: World, way: str, repetition: int, lanes: int) -> list[Outcome]:
    """One study, seen at every budget of fits."""
    if way in EPOCH_WAYS:
        return EPOCH_WAYS[way].search(world.draw(repetition), repetition)
    chosen = WAYS[way]
    larger = replace(world, num_parameters=world.num_parameters + chosen.more_parameters)
    if chosen.knows_truth:
        larger = replace(
            larger, num_folds=1, fit_sd=0.0, image_sd=0.0, fold_sd=0.0, fold_configuration_sd=0.0
        )
    instance = larger.draw(repetition)
    race = Race(chosen.rule, instance.groups)
    study = SimulatedStudy(
        instance,
        race,
        chosen.ask,
        lanes=lanes,
        seed=repetition,
        predict=chosen.predict,
        most_failed=MOST_FAILED,
    )
    return study.run(chosen.budgets)


def search_networks(way: str, repetition: int, lanes: int) -> list[Outcome]:
    """One study over networks, seen at every budget of seconds."""
    chosen = NETWORK_WAYS[way]
    instance = OVER_NETWORKS.draw(repetition)
    study = SimulatedStudy(
        instance,
        Race(chosen.rule, instance.groups),
        chosen.ask,
        lanes=lanes,
        seed=repetition,
        predict=chosen.predict,
    )
    return study.run_seconds(chosen.budgets)


def ways_of(world: str) -> set[str]:
    return {*NETWORK_WAYS} if world == OVER_NETWORKS.name else {*WAYS, *EPOCH_WAYS}


def measure(options: argparse.Namespace) -> None:
    """Add what is missing in the file, a repetition of everything after the other."""
    known = {_key(line) for line in lines_of(options.out)}
    worlds = {world.name: world for world in WORLDS}
    for repetition in range(options.seed, options.seed + options.repetitions):
        for world in options.worlds:
            for way in (one for one in options.ways or DEFAULT if one in ways_of(world)):
                line: Line = {"world": world, "way": way, "repetition": repetition, "lanes": options.lanes}
                if _key(line) in known:
                    continue
                at = repetition, options.lanes
                found = search(worlds[world], way, *at) if world in worlds else search_networks(way, *at)
                with options.out.open("a") as file:
                    file.write(json.dumps(line | {"outcomes": [_plain(one) for one in found]}) + "\n")


def _plain(outcome: Outcome) -> Line:
    return {name: getattr(value, "item", lambda v=value: v)() for name, value in asdict(outcome).items()}


def lines_of(file: Path) -> list[Line]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _key(line: Line) -> tuple[Any, ...]:
    return line["world"], line["way"], line["repetition"], line["lanes"]


def column(lines: Sequence[Line], at: int, name: str) -> np.ndarray:
    return np.array([line["outcomes"][at][name] for line in lines], dtype=np.float64)


def grouped(lines: Iterable[Line]) -> dict[tuple[str, int], dict[str, list[Line]]]:
    """World and lanes -> way -> its studies."""
    found: dict[tuple[str, int], dict[str, list[Line]]] = {}
    for line in lines:
        found.setdefault((line["world"], line["lanes"]), {}).setdefault(line["way"], []).append(line)
    return found


def regret_table(lines: Sequence[Line]) -> Table:
    table = Table("world", "lanes", "way", title="regret in Dice points")
    for heading in (
        "studies",
        "fits",
        "seconds",
        "configurations",
        "named",
        "by score",
        "tried",
        "best stopped",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for (world, lanes), ways in grouped(lines).items():
        for way, studies in ways.items():
            for at in range(len(studies[0]["outcomes"])):
                table.add_row(world, str(lanes), way, *_cells(studies, at))
    return table


def _cells(studies: Sequence[Line], at: int) -> list[str]:
    spent = [f"{column(studies, at, name).mean():.0f}" for name in ("fits", "seconds", "num_configurations")]
    regrets = [100 * column(studies, at, name) for name in ("regret", "regret_by_score", "least_regret")]
    stopped = column(studies, at, "best_was_stopped")
    low, high = binomtest(int(stopped.sum()), len(stopped)).proportion_ci()
    return [
        str(len(studies)),
        *spent,
        *(f"{of.mean():.3f} ± {_error(of):.3f}" for of in regrets),
        f"{100 * stopped.mean():.0f} % ({100 * low:.0f} to {100 * high:.0f})",
    ]


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def level_table(lines: Sequence[Line]) -> Table:
    table = Table("world", "way", title="fits until the mean regret is as low for good, and times ours")
    for level in LEVELS:
        table.add_column(f"{level:g}", justify="right", no_wrap=True)
    for (world, _), ways in grouped(lines).items():
        needed = {way: [_needed(studies, level) for level in LEVELS] for way, studies in ways.items()}
        ours = needed.get("ours", [float("nan")] * len(LEVELS))
        for way, fits in needed.items():
            table.add_row(world, way, *(_times(one, own) for one, own in zip(fits, ours, strict=True)))
    return table


def _needed(studies: Sequence[Line], level: float) -> float:
    places = range(len(studies[0]["outcomes"]))
    what = "seconds" if studies[0]["world"] == OVER_NETWORKS.name else "fits"
    spent = np.array([column(studies, at, what).mean() for at in places])
    return fits_for(level, spent, np.array([100 * column(studies, at, "regret").mean() for at in places]))


def _times(fits: float, ours: float) -> str:
    if not np.isfinite(fits):
        return "never"
    return f"{fits:.0f} ({fits / ours:.1f})" if np.isfinite(ours) else f"{fits:.0f}"


def main() -> None:
    names = [world.name for world in (*WORLDS, OVER_NETWORKS)]
    parser = argparse.ArgumentParser(description="Training that a search needs in simulated worlds.")
    parser.add_argument(
        "--out", type=Path, required=True, help="every study as a line of JSON; it is added to"
    )
    parser.add_argument("--repetitions", type=int, default=20, help="studies of each world and way")
    parser.add_argument("--seed", type=int, default=0, help="of the first repetition")
    parser.add_argument("--worlds", nargs="+", choices=names, default=names)
    parser.add_argument(
        "--ways",
        nargs="+",
        choices=[*{**WAYS, **EPOCH_WAYS, **NETWORK_WAYS}],
        help="default: those that need no other package",
    )
    parser.add_argument("--lanes", type=int, default=1, help="fits in flight at once")
    parser.add_argument("--show", action="store_true", help="the tables of what is there, and no new study")
    options = parser.parse_args()
    if options.repetitions < 1 or options.lanes < 1:
        parser.error("--repetitions and --lanes need to be 1 or more")
    if asked := [way for way in options.ways or () if way in EPOCH_WAYS]:
        worlds = {world.name: world for world in WORLDS if world.num_epochs > 1 and not world.num_choices}
        if options.lanes > 1 or not {*options.worlds} <= worlds.keys():
            parser.error(f"{', '.join(asked)}: only with one lane, in the worlds {', '.join(worlds)}")
    for world in options.worlds if options.ways else ():
        if missing := [way for way in options.ways if way not in ways_of(world)]:
            print(f"{world}: without {', '.join(missing)}, which it does not have", file=sys.stderr)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")  # of Optuna's experimental samplers
    if not options.show:
        measure(options)
    console = Console()
    console.width = max(console.width, 150)
    for table in (regret_table, level_table):
        console.print(table(lines_of(options.out)))


if __name__ == "__main__":
    main()
