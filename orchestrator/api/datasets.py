"""Datasets of a home: added, checked, described, removed, and compared for near-duplicates.

Nothing here needs torch or Ray.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from orchestrator.api.home import PathLike, as_names, cache_folder, home_folder
from orchestrator.common.errors import python_errors

if TYPE_CHECKING:
    from orchestrator.common.display import Display
    from orchestrator.data.cases import Dataset
    from orchestrator.data.near_duplicates.find import Leaks as NearDuplicates
    from orchestrator.data.published.about import About

WithoutMask = Literal["refuse", "empty"]
GROUP_WORDS = ("", "folders", "none")  # for `groups`; anything else is a file


@python_errors()
def datasets(home: PathLike | None = None) -> dict[str, Dataset]:
    """Name -> dataset, of all that were added to this home.

    >>> import orchestrator as po
    >>> {name: len(one.cases) for name, one in po.datasets().items()}
    {'drawn': 24}
    """
    from orchestrator.data.cases import list_datasets

    return {one.name: one for one in list_datasets(home_folder(home))}


@python_errors()
def dataset(name: str, *, home: PathLike | None = None) -> Dataset:
    """One dataset: its cases, their groups and centers, its fingerprint. Raises `BadData` with the known names.

    >>> import orchestrator as po
    >>> sorted({case.center for case in po.dataset("drawn").cases})
    ['center1', 'center2', 'center3']
    """
    from orchestrator.data.cases import load_dataset

    return load_dataset(home_folder(home), name)


@python_errors()
def add_dataset(
    name: str,
    source: PathLike,
    *,
    home: PathLike | None = None,
    groups: PathLike | None = None,
    group_column: str = "group",
    center_column: str = "center",
    allow_empty: bool = False,
    mask_colors: str | Sequence[str] = (),
    mask_values: str | Sequence[str] = (),
    mask_classes: str | Sequence[str] = (),
    invert_masks: bool = False,
    exif: str = "",
    parts: str | Sequence[str] = (),
    images: str = "",
    masks: str = "",
    pattern: str = "",
    without_mask: WithoutMask = "refuse",
    skip_bad: bool = False,
    stated: Mapping[str, str | None] | None = None,
    display: Display | None = None,
) -> Dataset:
    """Copy the images and masks of a folder or archive into this home, checked; repeated, it changes nothing.

    `groups`: a CSV file that says which images belong together (a video sequence, a patient), and their
    centers; "folders" for each folder, "none". `allow_empty` accepts masks without a polyp; `skip_bad` leaves
    out pairs that cannot be used, and lists them. `stated`: facts for model cards, such as {"licence":
    "research only"}. All other parameters are the options of `orchestrator data add` (`parts` is --part).
    Raises `BadData` with every problem of every file.

    >>> import orchestrator as po
    >>> po.add_dataset("drawn", "frames", groups="frames/groups.csv", allow_empty=True).name
    'drawn'
    """
    from orchestrator.common.display import Display
    from orchestrator.common.errors import BadData
    from orchestrator.data.importing.dataset import add_dataset as import_dataset
    from orchestrator.data.masks.mask_rule import parse_rule
    from orchestrator.data.sources.sets import SourceOptions
    from orchestrator.data.statement import checked, state

    if without_mask not in get_args(WithoutMask):
        raise BadData("--without-mask", f"expected refuse or empty, found {without_mask!r}")
    statements = checked(stated or {})
    by_folder = groups is not None and str(groups) in GROUP_WORDS
    table = None if groups is None or by_folder else Path(groups).expanduser()
    if table is not None and not table.exists():
        raise BadData(f"--groups {groups}", "expected a CSV file, `folders` or `none`, found nothing there")
    polyp = {"colors": mask_colors, "values": mask_values, "classes": mask_classes}
    texts = {name: as_names(given) for name, given in polyp.items()}
    rule = parse_rule(**texts, invert=invert_masks, exif=exif)
    words = str(groups) if by_folder else ""
    reading = SourceOptions(as_names(parts), images, masks, pattern, words, without_mask, skip_bad)
    with (display or Display()).bar(f"reading {source}") as on_progress:
        dataset = import_dataset(
            home_folder(home),
            name,
            Path(source).expanduser(),
            reading=reading,
            groups=table,
            group_column=group_column,
            center_column=center_column,
            allow_empty=allow_empty,
            rule=rule,
            on_progress=on_progress,
        )
    if statements:
        state(dataset.folder, statements)
    return dataset


@python_errors()
def check_dataset(name: str, *, home: PathLike | None = None, display: Display | None = None) -> Dataset:
    """Read every file of a dataset again; returns the dataset. `BadData` names all damaged or changed files.

    >>> import orchestrator as po
    >>> len(po.check_dataset("drawn").cases)
    24
    """
    from orchestrator.common.display import Display
    from orchestrator.common.errors import BadData
    from orchestrator.data.importing.check import check_dataset as problems_of

    found = dataset(name, home=home)
    with (display or Display()).bar(f"reading {name}") as on_progress:
        problems = problems_of(found, on_progress)
    if problems:
        raise BadData(name, problems)
    return found


@python_errors()
def describe_dataset(name: str, *, home: PathLike | None = None, **stated: str | None) -> dict[str, str]:
    """Store facts on a dataset for model cards and papers; returns all stored facts by field.

    `stated`: `licence`, `source`, `annotators`, `dates`, `inclusion`, `centers`, `devices`, `citation`. A later
    statement replaces an earlier one; "not stated" removes it. Raises `BadData` for other fields.

    >>> import orchestrator as po
    >>> po.describe_dataset("drawn", licence="CC0")["licence"]
    'CC0'
    >>> po.describe_dataset("drawn", licence="not stated")["licence"]
    'not stated'
    """
    from orchestrator.data.statement import all_fields, checked, state

    folder = dataset(name, home=home).folder
    if statements := checked(stated):
        state(folder, statements)
    return all_fields(folder)


@python_errors()
def remove_dataset(name: str, *, home: PathLike | None = None, cache: PathLike | None = None) -> None:
    """Delete a dataset, images and masks included; `freeable` then lists its cached files.

    Raises `BadData` while studies of this home need it, or a search reads it.

    >>> import orchestrator as po
    >>> po.remove_dataset("drawn")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    orchestrator.common.errors.BadData: drawn: is needed by 1 study: demo; ...
    """
    from orchestrator.study.housekeeping import remove_dataset as delete

    folder = home_folder(home)
    delete(folder, name, cache_folder(cache, folder))


@python_errors()
def draw_dataset(
    folder: PathLike,
    *,
    cases: int = 120,
    size: int = 160,
    centers: int = 3,
    seed: int = 0,
    display: Display | None = None,
) -> Path:
    """Draw colonoscopy-like frames with polyps, to try all without real data; returns their groups.csv.

    `size`: height in pixels. `centers`: hospitals that differ in color and scale. Raises `BadData` for a folder that is
    not empty.

    >>> import orchestrator as po
    >>> po.draw_dataset("more", cases=2, size=32).name
    'groups.csv'
    """
    from orchestrator.common.display import Display
    from orchestrator.data.phantom import draw_dataset as draw

    target = Path(folder).expanduser()
    with (display or Display()).bar(f"drawing {folder}") as on_progress:
        draw(target, num_cases=cases, size=size, num_centers=centers, seed=seed, on_progress=on_progress)
    return target / "groups.csv"


@python_errors()
def layouts() -> dict[str, About]:
    """Published datasets that `add_dataset` recognises by their content: masks, groups, centers, terms of use.

    >>> import orchestrator as po
    >>> "Kvasir-SEG" in po.layouts()
    True
    """
    from orchestrator.data.published.about import ABOUT

    return dict(ABOUT)


@python_errors()
def near_duplicates(
    *datasets: str,
    home: PathLike | None = None,
    cache: PathLike | None = None,
    display: Display | None = None,
) -> NearDuplicates:
    """Near-duplicates: frames of one place, also mirrored or rotated, which training and test must not share.

    As `orchestrator data leaks`. About 0.1 CPU seconds for a frame; what was compared before is read from the cache.
    Raises `BadData` for unknown datasets, for no dataset, and for damaged images.

    >>> import orchestrator as po
    >>> found = po.near_duplicates("drawn")
    >>> len(found.pairs) == len(found.near_duplicates), all(len(group) > 1 for group in found.groups())
    (True, True)
    """
    from orchestrator.common.display import Display
    from orchestrator.common.errors import BadData
    from orchestrator.data.cases import load_datasets
    from orchestrator.data.near_duplicates.find import find_near_duplicates

    if not datasets:
        raise BadData("leaks", "expected one dataset or more, found none")
    shown, folder = display or Display(), home_folder(home)
    found = load_datasets(folder, list(datasets))
    with shown.bar("near-duplicates") as on_progress:
        return find_near_duplicates(found, cache_folder(cache, folder), on_progress, shown.note)
