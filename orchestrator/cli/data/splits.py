"""`orchestrator data split`, and the split for `fit` and `search`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.console.live import CONSOLE
from orchestrator.cli.console.options import (
    DEFAULT_HOME,
    AsJson,
    Cache,
    Holdout,
    Home,
    NearDuplicates,
    Seed,
    Splits,
    Unseen,
)
from orchestrator.cli.console.printing import err, out, print_json, show_table

if TYPE_CHECKING:
    from orchestrator.data.cases import Dataset
    from orchestrator.data.splits.split_file import SplitPlan


def data_split(
    names: Annotated[list[str], typer.Argument(help="Datasets to train on.", metavar="NAME...")],
    splits: Splits = "five-fold",
    unseen: Unseen = None,
    holdout: Holdout = 0.1,
    seed: Seed = 0,
    near_duplicates: NearDuplicates = True,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="JSON file to write, for --splits of other commands.")
    ] = None,
    home: Home = DEFAULT_HOME,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Split datasets without a study: show every fold, and write a file for studies and papers."""
    from orchestrator.data.splits.plan import group_of_case
    from orchestrator.data.splits.proportions import hold_out_line, reason_in_words
    from orchestrator.data.splits.split_file import write_plan
    from orchestrator.results.views.split_table import split_dict, split_facts, split_table
    from orchestrator.study.loading import DataChoice

    home = home.expanduser().resolve()
    choice = DataChoice(home, names, unseen or [], splits, holdout, seed, near_duplicates, cache)
    sources, tests, plan = choice.load(CONSOLE)
    rows = split_facts(plan, sources, tests)
    warn_of_lopsided(plan, (*sources, *tests))
    if out_file is not None:
        write_plan(plan, out_file)
    if as_json:
        print_json(split_dict(plan, rows))
    else:
        show_table(split_table(plan, rows))
        if plan.test:
            requested = None if Path(splits).is_file() or splits == "published" else holdout
            group_of = group_of_case((*sources, *tests), plan.near_duplicates)
            out.print(hold_out_line(plan, group_of, requested), highlight=False)
        for reason, count in plan.num_dropped.items():
            out.print(
                f"{count} cases are excluded from validation and tests: {reason_in_words(reason)}",
                highlight=False,
            )
    if out_file is not None:
        (err if as_json else out).print(f"written to {out_file}", highlight=False)


def warn_of_lopsided(plan: SplitPlan, datasets: Sequence[Dataset]) -> None:
    """Print a warning if a fold differs much from the others because of a large group."""
    from orchestrator.data.splits.plan import group_of_case
    from orchestrator.data.splits.proportions import lopsided

    if line := lopsided(plan, group_of_case(datasets, plan.near_duplicates)):
        err.print(f"warning: {line}", highlight=False, markup=False)
