"""`orchestrator data cache` and `orchestrator data preview`: cached and augmented input of fits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.console.options import DEFAULT_HOME, AsJson, Cache, Home, finite
from orchestrator.cli.console.printing import megabytes, out, print_json, show_table
from orchestrator.common.display import counted
from orchestrator.common.files import write_atomically

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
            help="With --prune: remove further entries, least recently used first, until so many GB are left.",
        ),
    ] = None,
    home: Home = DEFAULT_HOME,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Show cached images and near-duplicates, or free space; files in use are always kept.

    With --prune, scores that were computed of removed studies, or by another version of the program, are removed too.
    """
    from orchestrator.common.errors import BadData
    from orchestrator.data.cache.prune import cache_entries
    from orchestrator.data.cache.prune import prune as prune_cache
    from orchestrator.data.cases import list_datasets
    from orchestrator.study.housekeeping import prune_derived

    if max_gb is not None and not prune:
        raise BadData("--max-gb", "needs --prune; without it nothing is removed")
    home = home.expanduser().resolve()
    folder = cache or home / "cache"
    datasets = list_datasets(home)
    if not prune:
        found = cache_entries(folder, datasets)
        if as_json:
            print_json([_facts(entry) for entry in found])
        else:
            _show(found, folder)
        return
    done = prune_cache(folder, datasets, None if max_gb is None else round(max_gb * 1e9))
    scores = prune_derived(home)
    if as_json:
        parts = {"removed": done.removed, "kept": done.kept}
        listed: dict[str, Any] = {name: [_facts(one) for one in part] for name, part in parts.items()}
        stale = [{"what": one.what, "bytes": one.num_bytes} for one in scores]
        print_json({**listed, "swept": [str(path) for path in done.swept], "scores": stale})
        return
    freed = sum(entry.num_bytes for entry in done.removed) / 1e6
    out.print(
        f"removed {counted(len(done.removed), 'part')}, {freed:,.0f} MB, and {len(done.swept)} of killed builds",
        highlight=False,
    )
    for one in scores:
        out.print(f"removed {one.what}: {megabytes(one.num_bytes)}", markup=False, highlight=False)
    _show(done.kept, folder)


def data_preview(
    name: Annotated[str, typer.Argument(help="Name of the dataset.")],
    augmentation: Annotated[str, typer.Option(help="Pipeline by name, or all.")] = "standard",
    size: Annotated[int, typer.Option(min=32, max=2048, help="Input side in pixels.")] = 256,
    cases: Annotated[int, typer.Option(min=1, max=100, help="Number of cases, spread over the dataset.")] = 4,
    epoch: Annotated[int, typer.Option(min=1, help="Epoch whose augmentation is shown; the first is 1.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the fit's recipe.")] = 0,
    path: Annotated[Path, typer.Option("--out", help="PNG file to write.")] = Path("preview.png"),
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Draw a sheet of augmented cases with the outlines of their masks, after the original frames."""
    from orchestrator.common.errors import BadData, BadSpace
    from orchestrator.data.augmentation.library_pipelines import canonical, is_of_library
    from orchestrator.data.augmentation.library_pipelines import problems as library_problems
    from orchestrator.data.augmentation.pipelines import names, summary
    from orchestrator.data.cases import load_dataset
    from orchestrator.results.views.augmentation_preview import sheet, spread
    from orchestrator.results.views.overlay import png

    known = names()
    problems = []
    try:
        augmentation = canonical(augmentation, Path.cwd())
    except (ValueError, BadData, BadSpace) as refused:
        problems.append(f"--augmentation: {refused}")
    else:
        wrong = library_problems(augmentation, size) if is_of_library(augmentation) else ()
        problems += [f"--augmentation: {problem}" for problem in wrong]
        if augmentation not in (*known, "all") and not is_of_library(augmentation):
            problems.append(
                f"--augmentation: no pipeline is named {augmentation!r}; known: {', '.join(known)} and all, "
                "'albumentations:[...]' and 'file:NAME.json'"
            )
    problems += no_png("--out", path)
    if problems:
        raise BadData("data preview", problems)
    dataset = load_dataset(home.expanduser().resolve(), name)
    shown = [one for one in known if one != "none"] if augmentation == "all" else [augmentation]
    write_atomically(path, png(sheet(spread(dataset.cases, cases), shown, size, epoch - 1, seed)), sync=False)
    num_cases = min(cases, len(dataset.cases))
    if as_json:
        print_json({"file": str(path), "cases": num_cases, "size": size, "pipelines": shown})
        return
    for one in shown:
        out.print(f"{one.partition(':')[0]:>16}  {summary(one)}", markup=False, highlight=False)
    out.print(f"{path}: {counted(num_cases, 'case')} at {size} pixels", highlight=False)


def no_png(option: str, path: Path) -> list[str]:
    """Problems of a path for a PNG file; empty if it is valid."""
    problems = []
    if path.suffix.lower() != ".png":
        problems.append(f"{option}: expected a file that ends in .png, found {path}")
    if not path.absolute().parent.is_dir():
        problems.append(f"{option}: there is no folder {path.absolute().parent}")
    return problems


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
