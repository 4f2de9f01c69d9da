"""`orchestrator reproduce`: the tables of the papers, published and measured side by side."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orchestrator.cli.console.live import ASIDE, CONSOLE, clock
from orchestrator.cli.console.options import (
    DEFAULT_HOME,
    Address,
    AsJson,
    Cache,
    Device,
    FitsPerGpu,
    Home,
    MaxLanes,
    absolute,
)
from orchestrator.cli.console.printing import note, out, print_json, show_table
from orchestrator.common.errors import BadData, FitFailed, Mistakes

if TYPE_CHECKING:
    from orchestrator.common.display import Display, counted
    from orchestrator.protocols.fits import Wishes
    from orchestrator.protocols.plan import TablePlan
    from orchestrator.protocols.work import Places
    from orchestrator.ray_cluster.machine import Machine

Paper = Annotated[
    str | None,
    typer.Argument(
        help="gmsrf, parallel-res2net, mediaeval-depthwise, attention-unet, resunetpp, or a file."
    ),
]
WhichTable = Annotated[str | None, typer.Argument(help="I, II, 1 or 2. Default: all tables of the paper.")]
ScaleOption = Annotated[
    Literal["smoke", "small", "full"],
    typer.Option(
        help="smoke: minutes on two cores, does every row run; small: minutes on a GPU, which network is ahead; "
        "full: the paper's sizes, images and epochs."
    ),
]
Datasets = Annotated[
    list[str] | None,
    typer.Option(help="PAPERS-NAME=NAME: a dataset of the home for one of the paper; repeatable."),
]
Only = Annotated[list[str] | None, typer.Option(help="Row, or network, to run alone; repeatable.")]
Also = Annotated[
    list[str] | None, typer.Option(help="Network that the table lacks, as a further row; repeatable.")
]
Seeds = Annotated[int, typer.Option(min=1, max=100, help="Fits of every row, from seeds 0, 1, ...")]
Weights = Annotated[
    list[str] | None,
    typer.Option(
        help="NETWORK=FILE, or ROW=FILE: weights that training starts from; =imagenet: those of ImageNet; repeatable."
    ),
]
ImageNet = Annotated[
    bool | None,
    typer.Option(
        "--imagenet/--random",
        help="Start from ImageNet weights where the paper does. Default: with --scale full.",
    ),
]
WholeGroups = Annotated[
    bool,
    typer.Option(
        "--whole-groups",
        help="Keep videos, patients and near-duplicates on one side of the split, where the papers split by image.",
    ),
]
Tuned = Annotated[
    bool,
    typer.Option("--tuned", help="Search parameters of every row too, each with the same budget of trials."),
]
Trials = Annotated[int | None, typer.Option(min=1, help="Of every row with --tuned. Default: the scale's.")]

ListAll = Annotated[bool, typer.Option("--list", help="Show all papers and tables.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be run, and end.")]
Out = Annotated[
    Path,
    typer.Option(
        "--out",
        callback=absolute,
        help="Markdown of the results; JSON of the same name goes with it.",
    ),
]


def reproduce(
    paper: Paper = None,
    table: WhichTable = None,
    scale: ScaleOption = "smoke",
    data: Datasets = None,
    only: Only = None,
    also: Also = None,
    seeds: Seeds = 1,
    weights: Weights = None,
    imagenet: ImageNet = None,
    whole_groups: WholeGroups = False,
    tuned: Tuned = False,
    trials: Trials = None,
    list_: ListAll = False,
    dry_run: DryRun = False,
    out_file: Out = Path("RESULTS.md"),
    fits_per_gpu: FitsPerGpu = 1,
    lanes: MaxLanes = None,
    address: Address = "auto",
    device: Device = "auto",
    home: Home = DEFAULT_HOME,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Run a published table as its paper describes it; print published and measured numbers, and what differs.

    Without a paper: all papers and tables. The same command again goes on where it stopped: no finished fit is trained
    again, and tables share their fits. Rows are scored by the program of their paper.
    """
    if paper is None or list_:
        return _list(paper, as_json=as_json)
    _refuse_unused(trials, tuned=tuned)
    from orchestrator.doctor.quick import checked_machine
    from orchestrator.protocols.fits import Wishes, check_weights
    from orchestrator.protocols.outcome.views import plan_dict
    from orchestrator.protocols.work import Places
    from orchestrator.ray_cluster.machine import Machine

    home = home.expanduser().resolve()
    places = Places(home, cache or home / "cache")
    wishes = Wishes(tuple(only or ()), tuple(also or ()), _pairs("--weights", weights), imagenet, seeds)
    plans = _plans(paper, table, scale, wishes, places, _pairs("--data", data), whole_groups, out_file)
    display = ASIDE if as_json else CONSOLE
    for plan in plans:
        _show_plan(plan, places, device)
    budget = (trials or plans[0].scale.trials) if tuned else None
    if budget is not None:
        note(f"then parameters of every row are searched: {budget} trials each, on the same folds")
    if dry_run:
        if as_json:
            print_json({plan.key: plan_dict(plan) for plan in plans})
        return
    check_weights([row for plan in plans for row in plan.rows])
    given = Machine(address, device, 1, lanes, fits_per_gpu)
    machine = checked_machine(given, places.home, places.cache, note)
    found = {plan.key: _run(plan, places, machine, display, budget, out_file) for plan in plans}
    if as_json:
        print_json(found)
    else:
        _print(found, out_file)
    _refuse_failed(found)


def _refuse_unused(trials: int | None, *, tuned: bool) -> None:
    if trials is not None and not tuned:
        raise BadData("--trials", "is the number of trials of a search, which only --tuned makes: add that")


def _list(paper: str | None, *, as_json: bool) -> None:
    """All papers and tables, or those of one paper."""
    from orchestrator.protocols.listing import papers_dict, papers_table
    from orchestrator.protocols.protocol import load_protocol, names

    protocols = [load_protocol(name) for name in ((paper,) if paper else names())]
    if as_json:
        print_json(papers_dict(protocols))
        return
    show_table(papers_table(protocols))
    out.print("\nrun one: orchestrator reproduce gmsrf I --scale smoke", highlight=False)


def _pairs(option: str, given: Sequence[str] | None) -> dict[str, str]:
    """NAME=VALUE texts. Raises `BadData` with all that are none."""
    split = [text.rpartition("=") if option == "--data" else text.partition("=") for text in given or ()]
    if wrong := [
        text for text, (name, _, value) in zip(given or (), split, strict=True) if not (name and value)
    ]:
        raise BadData(option, [f"expected NAME=VALUE, found {text!r}" for text in wrong])
    pairs = {name.strip(): value.strip() for name, _, value in split}
    if len(pairs) < len(split):
        raise BadData(option, "expected each name once, found one of them twice: " + ", ".join(given or ()))
    return pairs


def _plans(
    paper: str,
    table: str | None,
    scale: Literal["smoke", "small", "full"],
    wishes: Wishes,
    places: Places,
    data: dict[str, str],
    whole_groups: bool,
    out_file: Path,
) -> list[TablePlan]:
    """The tables, checked. Raises every mistake in one error."""
    from orchestrator.data.cases import Dataset
    from orchestrator.data.splits.plan import group_of_case
    from orchestrator.protocols.fits import refuse_unused_weights
    from orchestrator.protocols.outcome.results_file import check_writable
    from orchestrator.protocols.plan import plan_table
    from orchestrator.protocols.protocol import load_protocol
    from orchestrator.study.loading import near_duplicate_pairs

    def whole(dataset: Dataset) -> dict[str, str]:
        return group_of_case([dataset], near_duplicate_pairs([dataset], places.cache, ASIDE))

    protocol, mistakes, plans = load_protocol(paper), Mistakes(), []
    with mistakes.noted():
        check_writable(out_file)
    tables = {table: protocol.table(table)} if table else protocol.tables
    needed = list(dict.fromkeys(name for one in tables.values() for name in one.datasets))
    if unknown := sorted(data.keys() - {*needed}):
        with mistakes.noted():
            raise BadData(
                "--data", f"no dataset {', '.join(unknown)} is needed; needed are {', '.join(needed)}"
            )
    for name in tables:
        with mistakes.noted():
            grouping = whole if whole_groups else None
            plans.append(plan_table(protocol, name, scale, wishes, places.home, data, grouping))
    mistakes.raise_all()
    refuse_unused_weights([row for plan in plans for row in plan.rows], wishes)
    return plans


def _show_plan(plan: TablePlan, places: Places, device: str) -> None:
    """What will be run, and about how long that takes."""
    from orchestrator.protocols.outcome.views import plan_lines
    from orchestrator.protocols.work_units import seconds_of, weight_of
    from orchestrator.training.process import device_here

    specs = {spec.fit_id: spec for row in plan.rows for spec in row.fits}
    missing = [spec for fit_id, spec in specs.items() if not places.ledger.has(fit_id)]
    estimate = "nothing to train"
    if missing:
        where = device_here(device)
        seconds = seconds_of([weight_of(spec) for spec in missing], where)
        estimate = f"about {clock(seconds)} on one {'GPU' if where.type == 'cuda' else 'CPU'} that is free"
    for line in plan_lines(plan, len(missing), estimate):
        note(line)


def _run(
    plan: TablePlan, places: Places, machine: Machine, display: Display, budget: int | None, out_file: Path
) -> dict[str, Any]:
    """Run one table, write it into the files of results, and return what they say of it."""
    from orchestrator.protocols.lanes import lanes_of, search_of
    from orchestrator.protocols.outcome.measured import measure
    from orchestrator.protocols.outcome.results_file import as_plain, write_results
    from orchestrator.protocols.outcome.survival import published_differences
    from orchestrator.protocols.run import run_table
    from orchestrator.protocols.tuned import tune_rows

    with places.lock():
        performer = lanes_of(machine, places)
        run = run_table(plan, places, performer, display)
        tuned = {}
        if budget is not None:
            tuned = tune_rows(plan, places, budget, search_of(machine, display), performer, display)
        command = shlex.join(["orchestrator", *sys.argv[1:]])
        plain = as_plain(run, measure(run, tuned), published_differences(run), command)
        lost = write_results(out_file, plan.key, plain)
    if lost:
        note(f"{plan.title}: these results take the place of an earlier run with {', '.join(lost)}")
    return plain


def _print(found: dict[str, dict[str, Any]], out_file: Path) -> None:
    from orchestrator.protocols.outcome.views import result_view

    for plain in found.values():
        show_table(result_view(plain))
        out.print("")
    out.print(
        f"written to {out_file} and {out_file.with_suffix('.json').name}", highlight=False, markup=False
    )


def _refuse_failed(found: dict[str, dict[str, Any]]) -> None:
    """Raises `FitFailed` where rows have no number, after all else was done."""
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
