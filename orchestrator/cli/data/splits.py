"""`orchestrator data split`, and the split that `fit` and `search` are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
from orchestrator.cli.console.printing import bar, err, note, out, print_json

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
    """Split datasets without a study: show every fold, and write the file that a study, or a paper, can name."""
    from orchestrator.data.splits.plan import group_of_case
    from orchestrator.data.splits.proportions import hold_out_line
    from orchestrator.data.splits.split_file import write_plan
    from orchestrator.results.views.split_table import split_dict, split_facts, split_table

    home = home.expanduser().resolve()
    sources, tests, plan = load_split(
        home, names, unseen or [], splits, holdout, seed, near_duplicates=near_duplicates, cache=cache
    )
    rows = split_facts(plan, sources, tests)
    warn_of_lopsided(plan, (*sources, *tests))
    if out_file is not None:
        write_plan(plan, out_file)
    if as_json:
        print_json(split_dict(plan, rows))
    else:
        out.print(split_table(plan, rows))
        if plan.test:
            asked = None if Path(splits).is_file() else holdout
            group_of = group_of_case((*sources, *tests), plan.near_duplicates)
            out.print(hold_out_line(plan, group_of, asked), highlight=False)
        for reason, count in plan.num_dropped.items():
            out.print(f"{count} cases are left out of validation and tests: {reason}", highlight=False)
    if out_file is not None:
        (err if as_json else out).print(f"written to {out_file}", highlight=False)


def load_split(
    home: Path,
    data: Sequence[str],
    unseen: Sequence[str],
    splits: str,
    holdout: float,
    seed: int,
    *,
    near_duplicates: bool,
    cache: Path | None,
    fold: int = 0,
    check: Callable[[SplitPlan], None] | None = None,
) -> tuple[tuple[Dataset, ...], tuple[Dataset, ...], SplitPlan]:
    """The datasets to train on, those to test on, and how the former are dealt. `fold` is one that must be there.

    `check` may refuse a plan that has the name, the datasets and the seed, before near-duplicates are looked for.
    """
    from orchestrator.common.errors import BadSplit
    from orchestrator.data.splits.plan import looked_for_near_duplicates, make_plan

    datasets = load_unchanged(home, [*data, *unseen], cache)
    sources, tests = datasets[: len(data)], datasets[len(data) :]
    plan = make_plan(splits, sources, seed=seed, holdout=holdout, unseen=tests)  # refuses at once what it can
    if fold >= len(plan.folds):
        raise BadSplit("--fold", f"needs a number below {len(plan.folds)}, found {fold}")
    is_audited = near_duplicates and not looked_for_near_duplicates(splits)
    if check:
        check(replace(plan, near_duplicates=()) if is_audited else plan)
    if is_audited:
        pairs = look_for_near_duplicates(datasets, cache or home / "cache")
        plan = make_plan(splits, sources, seed=seed, holdout=holdout, unseen=tests, near_duplicates=pairs)
    if near_duplicates:
        err.print(near_duplicate_line(plan), highlight=False)
    return sources, tests, plan


def warn_of_lopsided(plan: SplitPlan, datasets: Sequence[Dataset]) -> None:
    """One line where a group is so large that a fold is unlike the others; a search says it as it begins."""
    from orchestrator.data.splits.plan import group_of_case
    from orchestrator.data.splits.proportions import lopsided

    if line := lopsided(plan, group_of_case(datasets, plan.near_duplicates)):
        err.print(f"warning: {line}", highlight=False, markup=False)


def refuse_split(
    home: Path, data: Sequence[str], unseen: Sequence[str], splits: str, holdout: float, seed: int
) -> None:
    """Raises what is wrong with datasets and split that is known at once."""
    from orchestrator.data.cases import load_datasets
    from orchestrator.data.splits.plan import make_plan

    datasets = load_datasets(home, [*data, *unseen])
    make_plan(splits, datasets[: len(data)], seed=seed, holdout=holdout, unseen=datasets[len(data) :])


def load_unchanged(home: Path, names: Sequence[str], cache: Path | None) -> tuple[Dataset, ...]:
    """The datasets of those names. Raises `BadData` where files are not those that were imported."""
    from orchestrator.data.cache.intact import refuse_changed
    from orchestrator.data.cases import load_datasets

    datasets = load_datasets(home, names)
    with bar("checking files") as on_progress:
        refuse_changed(datasets, cache or home / "cache", on_progress)
    return datasets


def look_for_near_duplicates(datasets: Sequence[Dataset], cache: Path) -> tuple[tuple[str, str], ...]:
    """Pairs of ids of cases that show one place."""
    from orchestrator.data.near_duplicates.find import find_near_duplicates

    with bar("near-duplicates") as on_progress:
        return find_near_duplicates(
            datasets, cache, on_progress, note, "; --no-near-duplicates skips it"
        ).pairs


def near_duplicate_line(plan: SplitPlan) -> str:
    """What was found, and what became of it."""
    if plan.num_near_duplicates is None:
        return (
            "near-duplicates: not looked for when this file was written, and it is used as it is; "
            "split again to look for them"
        )
    dropped = plan.num_unseen_near_duplicates
    return (
        f"near-duplicates: {plan.num_near_duplicates}, never parted; {dropped} unseen cases dropped for them"
    )
