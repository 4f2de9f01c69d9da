"""`orchestrator data`: import, show, check and draw datasets."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.console.options import DEFAULT_HOME, AsJson, Home
from orchestrator.cli.data.cache import data_cache, data_preview
from orchestrator.cli.data.layouts import data_layouts
from orchestrator.cli.data.near_duplicates import data_leaks
from orchestrator.cli.data.remove import data_remove
from orchestrator.cli.data.splits import data_split
from orchestrator.cli.data.statement import (
    Annotators,
    Centers,
    Citation,
    Dates,
    Devices,
    Inclusion,
    Licence,
    Source,
    data_describe,
    given,
)
from orchestrator.common.display import counted
from orchestrator.terminal.live import CONSOLE
from orchestrator.terminal.printing import nothing_in, out, print_json

if TYPE_CHECKING:
    from orchestrator.data.cases import Dataset

SHOWN = 10  # skipped files after an import; `data show` lists all


class WithoutMask(StrEnum):
    """Treatment of images without a mask."""

    REFUSE = "refuse"
    EMPTY = "empty"


app = typer.Typer(help="Datasets: import, show, check, split, remove.", no_args_is_help=True)
app.command("split")(data_split)
app.command("preview")(data_preview)
app.command("cache")(data_cache)
app.command("leaks")(data_leaks)
app.command("layouts")(data_layouts)
app.command("remove")(data_remove)
app.command("describe")(data_describe)


Name = Annotated[str, typer.Argument(help="Name of the dataset, for --data.")]
Place = Annotated[
    Path, typer.Argument(help="Published archive as downloaded (zip, tar, folder), or images/ + masks/.")
]
Parts = Annotated[
    list[str] | None,
    typer.Option(
        help="Part to import from a source that holds several: its name, or folders of it; repeat to join "
        "parts."
    ),
]
Images = Annotated[
    str,
    typer.Option(help="Folder of images, in PATH or elsewhere, if it has an unusual name."),
]
Masks = Annotated[str, typer.Option(help="Folder of masks; may be the folder of images.")]
Pattern = Annotated[
    str,
    typer.Option(
        help="How masks are named after their images: '{name}_mask', 'gt_{number}', '{name}.png'.",
    ),
]
Groups = Annotated[
    str,
    typer.Option(
        help="CSV with columns name and group (video, patient) or center, or both. "
        "Or `folders`: each folder is a group. Or `none`.",
    ),
]
GroupColumn = Annotated[str, typer.Option(help="Column of --groups that holds the group.")]
CenterColumn = Annotated[str, typer.Option(help="Column of --groups that holds the center.")]
AllowEmpty = Annotated[bool, typer.Option(help="Accept masks without a polyp.")]
MaskColors = Annotated[
    list[str] | None,
    typer.Option(help="Mask colors that mean polyp: red,green or '#800000'; JPEG noise is tolerated."),
]
MaskValues = Annotated[
    list[str] | None,
    typer.Option(help="Labels or grey levels that mean polyp: 1,2 or 1-255 or nonzero."),
]
MaskClasses = Annotated[
    list[str] | None,
    typer.Option(
        help="Colors or values with class names, for evaluate: flat=red,other=blue.",
    ),
]
InvertMasks = Annotated[bool, typer.Option("--invert-masks", help="Take black as polyp.")]
Exif = Annotated[
    str,
    typer.Option(
        help="If only one file of a pair has an EXIF rotation: apply its tag, or ignore it for masks.",
    ),
]
Maskless = Annotated[
    WithoutMask,
    typer.Option(
        help="What to do with images without a mask: refuse them, or take them as empty, without a polyp."
    ),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Skip unusable files and keep a list of them.")]


@app.command("add")
def data_add(
    name: Name,
    path: Place,
    part: Parts = None,
    images: Images = "",
    masks: Masks = "",
    pattern: Pattern = "",
    groups: Groups = "",
    group_column: GroupColumn = "group",
    center_column: CenterColumn = "center",
    allow_empty: AllowEmpty = False,
    mask_colors: MaskColors = None,
    mask_values: MaskValues = None,
    mask_classes: MaskClasses = None,
    invert_masks: InvertMasks = False,
    exif: Exif = "",
    without_mask: Maskless = WithoutMask.REFUSE,
    skip_bad: SkipBad = False,
    licence: Licence = None,
    origin: Source = None,
    annotators: Annotators = None,
    dates: Dates = None,
    inclusion: Inclusion = None,
    centers: Centers = None,
    devices: Devices = None,
    citation: Citation = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Import images and masks by content and check every pair; unless all pairs are valid, nothing is imported.

    No file is skipped without --skip-bad; the pairing of images with masks is reported. What model cards and papers
    have to say about the data can be stated here, or later with `orchestrator data describe`.
    """
    from orchestrator.api import datasets as api

    dataset = api.add_dataset(
        name,
        path,
        home=home,
        groups=groups,
        group_column=group_column,
        center_column=center_column,
        allow_empty=allow_empty,
        mask_colors=mask_colors or (),
        mask_values=mask_values or (),
        mask_classes=mask_classes or (),
        invert_masks=invert_masks,
        exif=exif,
        parts=part or (),
        images=images,
        masks=masks,
        pattern=pattern,
        without_mask=without_mask.value,
        skip_bad=skip_bad,
        stated=given(licence, origin, annotators, dates, inclusion, centers, devices, citation),
        display=CONSOLE,
    )
    _print_added(dataset, home.expanduser().resolve(), as_json)


def _print_added(dataset: Dataset, home: Path, as_json: bool) -> None:
    from orchestrator.data.importing.copies import count_copies
    from orchestrator.data.statement import NOT_STATED, all_fields

    copies = count_copies(dataset, home)
    if as_json:
        print_json(_facts(dataset) | {"same_images": copies})
        return
    out.print(f"recognised as {dataset.layout}", markup=False, highlight=False)
    for remark in dataset.remarks:
        out.print(remark, markup=False, highlight=False)
    for other, count in copies.items():
        here = f"{count} of its {len(dataset.cases)} images are also in {other}"
        out.print(f"{here}: one cannot test what was trained on the other", markup=False, highlight=False)
    _print_skipped(dataset)
    out.print(_describe(dataset))
    if missing := [key for key, value in all_fields(dataset.folder).items() if value == NOT_STATED]:
        out.print(
            f"not stated yet, but needed for model cards and papers: {', '.join(missing)}; `orchestrator data describe "
            f"{dataset.name} --ask` asks for each",
            markup=False,
            highlight=False,
        )


@app.command("list")
def data_list(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """List all datasets."""
    from orchestrator.api import datasets as api
    from orchestrator.api.home import home_folder

    datasets = list(api.datasets(home).values())
    if as_json:
        print_json([_facts(dataset) for dataset in datasets])
    elif not datasets:
        nothing_in(home_folder(home), "no datasets yet; `orchestrator data add NAME PATH` imports one")
    for dataset in () if as_json else datasets:
        out.print(_describe(dataset))


@app.command("show")
def data_show(name: str, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Show one dataset: sizes, groups, centers, polyps, and what is stated about it."""
    from orchestrator.api import datasets as api
    from orchestrator.data.statement import all_fields

    dataset = api.dataset(name, home=home)
    facts = _facts(dataset) | {"card": all_fields(dataset.folder)}
    if as_json:
        print_json(facts)
    else:
        card = facts.pop("card")
        facts["centers"] = ", ".join(facts["centers"]) or "unknown"
        facts |= {"hospitals" if key == "centers" else key: value for key, value in card.items()}
        for key, value in facts.items():
            if isinstance(value, dict):
                value = ", ".join(f"{name} {count}" for name, count in value.items())
            for line, text in enumerate(value if isinstance(value, list) else [value]):
                out.print(f"{'' if line else key:>16}  {text}", markup=False, highlight=False)


@app.command("check")
def data_check(name: str, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Read every file of a dataset again; exit code 2 if one is damaged or changed."""
    from orchestrator.api import datasets as api

    dataset = api.check_dataset(name, home=home)
    if as_json:
        print_json(
            {"name": name, "cases": len(dataset.cases), "fingerprint": dataset.fingerprint, "problems": []}
        )
    else:
        out.print(f"{name}: all {len(dataset.cases)} pairs are unchanged")


@app.command("draw")
def data_draw(
    path: Annotated[Path, typer.Argument(help="Folder to create.")],
    cases: Annotated[int, typer.Option(min=1, help="Number of frames.")] = 120,
    size: Annotated[int, typer.Option(min=32, help="Height in pixels.")] = 160,
    centers: Annotated[
        int, typer.Option(min=1, help="Number of hospitals, which differ in color and scale.")
    ] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Random seed; another seed draws other frames.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Draw colonoscopy-like frames with polyps, to try everything without real data."""
    from orchestrator.api import datasets as api

    groups = api.draw_dataset(path, cases=cases, size=size, centers=centers, seed=seed, display=CONSOLE)
    if as_json:
        print_json({"folder": str(path), "cases": cases, "groups": str(groups)})
        return
    out.print(f"{path}: {cases} frames; import them with --groups {groups} --allow-empty")


def _print_skipped(dataset: Dataset) -> None:
    for bad in dataset.skipped[:SHOWN]:
        out.print(f"  skipped {bad}", markup=False, highlight=False)
    if len(dataset.skipped) > SHOWN:
        more = len(dataset.skipped) - SHOWN
        out.print(f"  and {more} more: orchestrator data show {dataset.name}", markup=False, highlight=False)


def _describe(dataset: Dataset) -> str:
    facts = _facts(dataset)
    centers = f"{counted(len(facts['centers']), 'center')}, " if facts["centers"] else ""
    return (
        f"{facts['name']}: {facts['cases']} cases ({facts['without_polyp']} without polyp), {facts['groups']}, "
        f"{centers}{facts['sizes']}, fingerprint {dataset.fingerprint[:12]}"
    )


def _groups(dataset: Dataset) -> str:
    grouped = sum("/image:" not in case.group for case in dataset.cases)
    if grouped == len(dataset.cases):
        return f"{len({case.group for case in dataset.cases})} groups"
    known = f"groups of {grouped} of {len(dataset.cases)} cases known" if grouped else "groups unknown"
    return (
        f"{known} (recorded as known by an older version: remove and add it again)"
        if dataset.groups_known
        else known
    )


def _facts(dataset: Dataset) -> dict[str, Any]:
    sizes = sorted({(case.height * case.width, f"{case.width}x{case.height}") for case in dataset.cases})
    classes = dict(sorted(Counter(case.class_name for case in dataset.cases if case.classes).items()))
    parts = dict(sorted(Counter(case.part for case in dataset.cases if case.part).items()))
    areas = sorted(case.polyp_fraction for case in dataset.cases if case.polyp_fraction)
    return {
        "name": dataset.name,
        "layout": dataset.layout or "not recorded",
        "cases": len(dataset.cases),
        "without_polyp": len(dataset.cases) - len(areas),
        "groups": _groups(dataset),
        "centers": sorted({case.center for case in dataset.cases if case.center}),
        **({"classes": classes} if classes else {}),
        **({"parts": parts} if parts else {}),
        "sizes": sizes[0][1] if len(sizes) == 1 else f"{sizes[0][1]} to {sizes[-1][1]}",
        "polyp_area": f"{areas[0]:.2%} to {areas[-1]:.2%} of the frame" if areas else "none",
        "remarks": list(dataset.remarks),
        "skipped": [str(bad) for bad in dataset.skipped],
        "fingerprint": dataset.fingerprint,
        "folder": str(dataset.folder),
    }
