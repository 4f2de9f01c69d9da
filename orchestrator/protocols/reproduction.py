"""Tables of a paper from names to numbers: planned and checked, run, written into the files of results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.common.display import Display, counted
from orchestrator.common.errors import BadData, FitFailed, Mistakes
from orchestrator.data.cases import Dataset
from orchestrator.data.splits.plan import group_of_case
from orchestrator.protocols.fits import Wishes, refuse_unused_weights
from orchestrator.protocols.lanes import lanes_of, search_of
from orchestrator.protocols.outcome.measured import measure
from orchestrator.protocols.outcome.results_file import as_plain, check_writable, write_results
from orchestrator.protocols.outcome.survival import published_differences
from orchestrator.protocols.outcome.views import plan_lines
from orchestrator.protocols.plan import TablePlan, plan_table
from orchestrator.protocols.protocol import ScaleName, load_protocol
from orchestrator.protocols.run import run_table
from orchestrator.protocols.tuned import tune_rows
from orchestrator.protocols.work import Places
from orchestrator.protocols.work_units import seconds_of, weight_of
from orchestrator.ray_cluster.machine import Machine
from orchestrator.scoring.formatting import duration
from orchestrator.study.loading import near_duplicate_pairs
from orchestrator.training.process import device_here


@dataclass(frozen=True)
class ReproductionRequest:
    """Which tables, on which data, at which scale."""

    paper: str
    table: str | None  # None: all of the paper
    scale: ScaleName
    wishes: Wishes
    data: Mapping[str, str]  # the paper's name of a dataset -> that of a dataset of the home
    whole_groups: bool
    out: Path


def plan_tables(asked: ReproductionRequest, places: Places, display: Display) -> list[TablePlan]:
    """The tables, checked. Raises every mistake in one error."""

    def whole(dataset: Dataset) -> dict[str, str]:
        return group_of_case([dataset], near_duplicate_pairs([dataset], places.cache, display))

    protocol, mistakes, plans = load_protocol(asked.paper), Mistakes(), []
    with mistakes.noted():
        check_writable(asked.out)
    tables = {asked.table: protocol.table(asked.table)} if asked.table else protocol.tables
    needed = list(dict.fromkeys(name for one in tables.values() for name in one.datasets))
    if unknown := sorted(asked.data.keys() - {*needed}):
        with mistakes.noted():
            raise BadData("--data", f"{', '.join(unknown)} is not needed; needed are {', '.join(needed)}")
    for name in tables:
        with mistakes.noted():
            grouping = whole if asked.whole_groups else None
            plans.append(
                plan_table(protocol, name, asked.scale, asked.wishes, places.home, dict(asked.data), grouping)
            )
    mistakes.raise_all()
    refuse_unused_weights([row for plan in plans for row in plan.rows], asked.wishes)
    return plans


def planned_lines(plan: TablePlan, places: Places, device: str) -> list[str]:
    """Lines on the plan of a table: fits to run, and about how long these take."""
    specs = {spec.fit_id: spec for row in plan.rows for spec in row.fits}
    missing = [spec for fit_id, spec in specs.items() if not places.ledger.has(fit_id)]
    estimate = "nothing to train"
    if missing:
        where = device_here(device)
        seconds = seconds_of([weight_of(spec) for spec in missing], where)
        estimate = f"about {duration(seconds)} on one {'GPU' if where.type == 'cuda' else 'CPU'} that is free"
    return list(plan_lines(plan, len(missing), estimate))


def run_planned(
    plan: TablePlan,
    places: Places,
    machine: Machine,
    display: Display,
    *,
    budget: int | None,
    out: Path,
    command: str,
) -> dict[str, Any]:
    """Run one table, write it into the files of results, and return its content there.

    `budget`: trials of every row, where parameters are searched too. `command`: how to run it again.
    """
    with places.lock():
        performer = lanes_of(machine, places)
        run = run_table(plan, places, performer, display)
        tuned = {}
        if budget is not None:
            tuned = tune_rows(plan, places, budget, search_of(machine, display), performer, display)
        plain = as_plain(run, measure(run, tuned), published_differences(run), command)
        lost = write_results(out, plan.key, plain)
    if lost:
        display.note(f"{plan.title}: these results replace an earlier run with {', '.join(lost)}")
    return plain


def refuse_failed(found: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises `FitFailed` where rows of tables have no number."""
    failed = {
        f"{plain['title']}: {row['name']}"
        for plain in found.values()
        for one in plain["sets"]
        for row in one["rows"]
        if row["error"] is not None
    }
    if failed:
        raise FitFailed(
            f"{counted(len(failed), 'row')} failed: {', '.join(sorted(failed))}; the same command tries them again"
        )
