"""`orchestrator reproduce`: the tables of the papers, published and measured side by side."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

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
from orchestrator.common.errors import BadData
from orchestrator.terminal.live import ASIDE, CONSOLE
from orchestrator.terminal.printing import out, print_json, show_table

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
        help="smoke: minutes on two cores, to see that every row runs; small: minutes on a GPU, to see which network "
        "is ahead; full: the paper's sizes, images and epochs."
    ),
]
Datasets = Annotated[
    list[str] | None,
    typer.Option(help="PAPERS-NAME=NAME: use a dataset of the home for one of the paper's; repeatable."),
]
Only = Annotated[list[str] | None, typer.Option(help="Run only this row or network; repeatable.")]
Also = Annotated[
    list[str] | None, typer.Option(help="Add a row for a network that the table lacks; repeatable.")
]
Seeds = Annotated[int, typer.Option(min=1, max=100, help="Number of fits of every row, with seeds 0, 1, ...")]
Weights = Annotated[
    list[str] | None,
    typer.Option(
        help="NETWORK=FILE or ROW=FILE: weights to start training from; =imagenet: those of ImageNet; repeatable."
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
    typer.Option(
        "--tuned", help="Also search the parameters of every row, each with the same budget of trials."
    ),
]
Trials = Annotated[
    int | None,
    typer.Option(min=1, help="Number of trials of every row with --tuned. Default: that of the scale."),
]

ListAll = Annotated[bool, typer.Option("--list", help="Show all papers and tables.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be run, and exit.")]
Out = Annotated[
    Path,
    typer.Option(
        "--out",
        callback=absolute,
        help="Markdown file for the results; a JSON file of the same name goes with it.",
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
    """Run a published table as its paper describes it; print published and measured numbers, and what differs from the
    paper.

    Without a paper, list all papers and tables. Run the same command again to continue where it stopped: no finished
    fit is trained again, and tables share their fits. Rows are scored as the program of their paper does.
    """
    if paper is None or list_:
        return _list(paper, as_json=as_json)
    from orchestrator.api import papers

    found = papers.reproduce(
        paper,
        table,
        scale=scale,
        data=_pairs("--data", data),
        only=only or (),
        also=also or (),
        seeds=seeds,
        weights=_pairs("--weights", weights),
        imagenet=imagenet,
        whole_groups=whole_groups,
        tuned=tuned,
        trials=trials,
        dry_run=dry_run,
        out=out_file,
        fits_per_gpu=fits_per_gpu,
        lanes=lanes,
        address=address,
        device=device,
        home=home,
        cache=cache,
        display=ASIDE if as_json else CONSOLE,
        command=shlex.join(["orchestrator", *sys.argv[1:]]),
    )
    _end(found, out_file, dry_run=dry_run, as_json=as_json)


def _list(paper: str | None, *, as_json: bool) -> None:
    """Print all papers and their tables, or those of one paper."""
    from orchestrator.api import papers
    from orchestrator.protocols.listing import papers_table

    found = papers.papers(paper)
    if as_json:
        print_json(found)
        return
    show_table(papers_table(found))
    out.print("\nrun one: orchestrator reproduce gmsrf I --scale smoke", highlight=False)


def _pairs(option: str, given: Sequence[str] | None) -> dict[str, str]:
    """Name -> value of texts NAME=VALUE. Raises `BadData` for other texts, and for a name given twice."""
    split = [text.rpartition("=") if option == "--data" else text.partition("=") for text in given or ()]
    if wrong := [
        text for text, (name, _, value) in zip(given or (), split, strict=True) if not (name and value)
    ]:
        raise BadData(option, [f"expected NAME=VALUE, found {text!r}" for text in wrong])
    pairs = {name.strip(): value.strip() for name, _, value in split}
    if len(pairs) < len(split):
        raise BadData(option, "expected each name once, found one of them twice: " + ", ".join(given or ()))
    return pairs


def _end(found: dict[str, dict[str, Any]], out_file: Path, *, dry_run: bool, as_json: bool) -> None:
    """Print the results of tables; of a dry run only JSON with plans. `FitFailed` where rows failed."""
    from orchestrator.protocols.outcome.views import result_view
    from orchestrator.protocols.reproduction import refuse_failed

    if as_json:
        print_json(found)
    elif not dry_run:
        for plain in found.values():
            show_table(result_view(plain))
            out.print("")
        written = f"written to {out_file} and {out_file.with_suffix('.json').name}"
        out.print(written, highlight=False, markup=False)
    if not dry_run:
        refuse_failed(found)
