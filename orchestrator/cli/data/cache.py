"""`orchestrator data cache` and `orchestrator data preview`: cached and augmented input of fits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.console.options import DEFAULT_HOME, AsJson, Cache, Home, finite
from orchestrator.common.display import counted
from orchestrator.terminal.printing import megabytes, out, print_json, show_table

if TYPE_CHECKING:
    from orchestrator.data.cache.prune import CacheEntry


def data_cache(
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Remove entries that no dataset needs, and leftovers of killed builds."),
    ] = False,
    max_gb: Annotated[
        float | None,
        typer.Option(
            min=0,
            callback=finite,
            help="With --prune: also remove the least recently used entries until at most this many GB are left.",
        ),
    ] = None,
    home: Home = DEFAULT_HOME,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Show cached images and near-duplicates, or free space; files in use are always kept.

    --prune also removes scores that were computed from removed studies or by another version of the program.
    """
    from orchestrator.api import disk
    from orchestrator.api.home import cache_folder, home_folder
    from orchestrator.common.errors import BadData

    if max_gb is not None and not prune:
        raise BadData("--max-gb", "needs --prune; without it nothing is removed")
    folder = cache_folder(cache, home_folder(home))
    if not prune:
        found = disk.cached(home=home, cache=cache)
        if as_json:
            print_json([_facts(entry) for entry in found])
        else:
            _show(found, folder)
        return
    pruned = disk.prune_cache(max_gb=max_gb, home=home, cache=cache)
    done, scores = pruned.cache, pruned.scores
    if as_json:
        parts = {"removed": done.removed, "kept": done.kept}
        listed: dict[str, Any] = {name: [_facts(one) for one in part] for name, part in parts.items()}
        stale = [{"what": one.what, "bytes": one.num_bytes} for one in scores]
        print_json({**listed, "swept": [str(path) for path in done.swept], "scores": stale})
        return
    freed = sum(entry.num_bytes for entry in done.removed) / 1e6
    out.print(
        f"removed {counted(len(done.removed), 'part')}, {freed:,.0f} MB, and {counted(len(done.swept), 'leftover')} "
        f"of killed builds",
        highlight=False,
    )
    for one in scores:
        out.print(f"removed {one.what}: {megabytes(one.num_bytes)}", markup=False, highlight=False)
    _show(done.kept, folder)


def data_preview(
    name: Annotated[str, typer.Argument(help="Name of the dataset.")],
    augmentation: Annotated[str, typer.Option(help="Name of a pipeline, or all.")] = "standard",
    size: Annotated[
        int, typer.Option(min=32, max=2048, help="Side of the network's input, in pixels.")
    ] = 256,
    cases: Annotated[int, typer.Option(min=1, max=100, help="Number of cases, spread over the dataset.")] = 4,
    epoch: Annotated[int, typer.Option(min=1, help="Epoch whose augmentation is shown; the first is 1.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the fit's recipe.")] = 0,
    path: Annotated[Path, typer.Option("--out", help="PNG file to write.")] = Path("preview.png"),
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Draw a sheet of cases with the outlines of their masks: the original frames, then augmented ones."""
    from orchestrator.api import inputs
    from orchestrator.data.augmentation.pipelines import summary

    drawn = inputs.preview(
        name, path, augmentation=augmentation, size=size, cases=cases, epoch=epoch, seed=seed, home=home
    )
    if as_json:
        facts = {"file": str(path), "cases": drawn.num_cases, "size": size}
        print_json({**facts, "pipelines": list(drawn.pipelines)})
        return
    for one in drawn.pipelines:
        out.print(f"{one.partition(':')[0]:>16}  {summary(one)}", markup=False, highlight=False)
    out.print(f"{path}: {counted(drawn.num_cases, 'case')} at {size} pixels", highlight=False)


def _facts(entry: CacheEntry) -> dict[str, Any]:
    return {
        "dataset": entry.dataset,
        "fingerprint": entry.fingerprint,
        "size": entry.size,
        "megabytes": round(entry.num_bytes / 1e6, 3),
        "last_used": entry.last_used.isoformat(timespec="seconds"),
        "in_use": entry.in_use,
        "folder": str(entry.folder),
    }


def _show(found: tuple[CacheEntry, ...], folder: Path) -> None:
    from rich import box
    from rich.table import Table

    if not found:
        out.print(f"{folder} is empty; the first fit fills it", highlight=False)
        return
    total = sum(entry.num_bytes for entry in found) / 1e6
    table = Table(title=f"{folder}: {total:,.0f} MB", title_justify="left", box=box.SIMPLE_HEAD)
    for title in ("dataset", "fingerprint", "size"):
        table.add_column(title)
    table.add_column("MB", justify="right")
    table.add_column("last used")
    for entry in reversed(found):
        table.add_row(
            entry.dataset or "needed by none",
            entry.fingerprint[:12],
            entry.size,
            f"{entry.num_bytes / 1e6:,.1f}",
            "now" if entry.in_use else f"{entry.last_used.astimezone():%Y-%m-%d %H:%M}",
        )
    show_table(table)
