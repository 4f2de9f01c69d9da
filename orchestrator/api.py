"""What a notebook imports: `import orchestrator as po`; a study to run is in `api_study`.

Nothing here needs torch or Ray, but a dataset that is added and a network that predicts need what they are read with.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from orchestrator.common.display import Display
    from orchestrator.data.cases import Dataset
    from orchestrator.data.near_duplicates.find import Leaks as NearDuplicates
    from orchestrator.results.bundle_scores import BundleScores
    from orchestrator.results.export.bundle import Bundle as ExportedNetwork
    from orchestrator.results.report.files import Report
    from orchestrator.results.stored_study import StoredStudy
    from orchestrator.search.choices import DeviceName
    from orchestrator.selection.comparison import Comparison

PathLike = str | Path
DEFAULT_HOME = Path.home() / ".orchestrator"
WithoutMask = Literal["refuse", "empty"]
GROUP_WORDS = ("", "folders", "none")  # for `groups`; anything else is a file


def as_names(names: str | Sequence[str]) -> tuple[str, ...]:
    """Names, of which one alone may be given as it is."""
    return (names,) if isinstance(names, str) else tuple(names)


def home_folder(home: PathLike | None = None) -> Path:
    """Where datasets and studies live: as given, else ORCHESTRATOR_HOME, else ~/.orchestrator."""
    return Path(home or os.environ.get("ORCHESTRATOR_HOME") or DEFAULT_HOME).expanduser().resolve()


def datasets(home: PathLike | None = None) -> dict[str, Dataset]:
    """Name -> dataset, of all that were added to this home.

    >>> import orchestrator as po
    >>> {name: len(one.cases) for name, one in po.datasets().items()}
    {'drawn': 24}
    """
    from orchestrator.data.cases import list_datasets

    return {one.name: one for one in list_datasets(home_folder(home))}


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
    """Copy the images and masks of a folder or an archive into this home, checked; the same again changes nothing.

    `groups`: a CSV file that says which images belong together (a video sequence, a patient), and their centers;
    "folders" for each folder, "none". `allow_empty` accepts masks without a polyp; `skip_bad` leaves out pairs that
    cannot be used, and lists them. `stated`: what model cards have to say, such as {"licence": "research only"}. All
    others are the options of `orchestrator data add` (`parts` is --part). Raises `BadData` with every problem of every
    file.

    >>> import orchestrator as po
    >>> po.add_dataset("drawn", "frames", groups="frames/groups.csv", allow_empty=True).name
    'drawn'
    """
    from orchestrator.common.display import Display
    from orchestrator.common.errors import BadData
    from orchestrator.data.importing.dataset import add_dataset as import_dataset
    from orchestrator.data.masks.mask_rule import parse_rule
    from orchestrator.data.sources.sets import Reading
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
    reading = Reading(as_names(parts), images, masks, pattern, words, without_mask, skip_bad)
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


def studies(home: PathLike | None = None) -> dict[str, StoredStudy]:
    """Name -> study, of all studies of this home.

    >>> import orchestrator as po
    >>> po.studies()["demo"].status().state
    'ended'
    """
    from orchestrator.results.stored_study import StoredStudy
    from orchestrator.search.store.study_store import list_studies

    return {one.name: StoredStudy(one) for one in list_studies(home_folder(home))}


def near_duplicates(
    *datasets: str,
    home: PathLike | None = None,
    cache: PathLike | None = None,
    display: Display | None = None,
) -> NearDuplicates:
    """Frames of these datasets that show one place, also mirrored or rotated: none may be in training and test.

    As `orchestrator data leaks`. About 0.1 CPU seconds for a frame; what was compared before is read from the cache.
    Raises `BadData` for unknown datasets, for none, and for damaged images.

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
        return find_near_duplicates(
            found, Path(cache).expanduser() if cache else folder / "cache", on_progress, shown.note
        )


def load_study(name: str | None = None, *, home: PathLike | None = None) -> StoredStudy:
    """A study of this home, None for the one that was worked on last. Raises `BadStudy` if there is none."""
    from orchestrator.results.stored_study import StoredStudy
    from orchestrator.search.store.study_store import find_study

    return StoredStudy(find_study(home_folder(home), name))


def report(
    *studies: str | StoredStudy,
    page: PathLike = "report.html",
    checklists: str | Sequence[str] = (),
    home: PathLike | None = None,
    display: Display | None = None,
) -> Report:
    """Write one page on several studies, by name or as `load_study` gives them; all are compared with the first.

    None: the study that was worked on last. `checklists`: "claim", "tripod" or "midl", filled, in Markdown files beside
    the page. What of a study does not read is noted in `display`. Raises one `UserError` with everything that is wrong.

    >>> import orchestrator as po
    >>> made = po.report("demo", page="demo.html")
    >>> made.text("methods")[:22]
    'We trained unet on dra'
    """
    from orchestrator.common.display import Display
    from orchestrator.common.errors import BadStudy, Mistakes
    from orchestrator.results.report.checklists.filled import checklist_name
    from orchestrator.results.report.files import refuse_foreign, write_report
    from orchestrator.search.store.damage import damage

    mistakes, found, lists, shown = Mistakes(), [], [], display or Display()
    names = [one if isinstance(one, str) else one.name for one in studies]
    target = Path(page).expanduser().absolute()
    for one in dict.fromkeys(studies) or [None]:
        with mistakes.noted():
            known = load_study(one, home=home) if one is None or isinstance(one, str) else one
            found.append(known.store.snapshot())
    if len(set(names)) < len(names):
        with mistakes.noted():
            raise BadStudy("report", f"expected each study once, found {', '.join(names)}")
    for name in dict.fromkeys(as_names(checklists)):
        with mistakes.noted():
            lists.append(checklist_name(name))
    with mistakes.noted():
        refuse_foreign(target)
    mistakes.raise_all()
    for snapshot in found:
        for line in damage(snapshot):
            shown.note(line)
    return write_report(found, target, lists)


def evaluate(
    bundle: PathLike,
    data: str | Sequence[str],
    *,
    metric: str = "dice",
    paper_scores: Sequence[str] = (),
    near_duplicates: bool = True,
    device: DeviceName = "auto",
    home: PathLike | None = None,
    cache: PathLike | None = None,
    display: Display | None = None,
) -> BundleScores:
    """Score an exported network on datasets of this home, image by image, as `orchestrator evaluate` does.

    Of the datasets that it was trained on, only hold-out cases are scored; of others, no near-duplicate of a case that
    it has seen. Raises `BadBundle`, and `BadData` for datasets or metrics that are not known.

    >>> import orchestrator as po
    >>> scores = po.evaluate("exported", "drawn", device="cpu")
    >>> mean, (low, high) = scores.means["dice"]
    >>> low <= mean <= high and len(scores.scored) == scores.as_dict()["cases"]
    True
    """
    from orchestrator.common.display import Display
    from orchestrator.results.bundle_scores import BundleScores, Eligible, checked_metric
    from orchestrator.results.export.bundle import Bundle as ExportedNetwork
    from orchestrator.results.export.prediction.device import on_device

    shown = display or Display()
    metric = checked_metric(metric)
    network, _ = on_device(ExportedNetwork.load(Path(bundle).expanduser()), device)
    eligible = Eligible.of(
        network.config,
        (data,) if isinstance(data, str) else tuple(data),
        home_folder(home),
        cache=Path(cache) if cache else None,
        near_duplicates=near_duplicates,
        display=shown,
    )
    return BundleScores.of(network, eligible, metric, paper_scores, shown)


def compare(
    *systems: str, metric: str = "dice", home: PathLike | None = None, display: Display | None = None
) -> list[Comparison]:
    """How much better each of several systems is than the first, paired image by image, and how sure that is.

    `systems`: names of studies of this home, or "STUDY:TRIAL"; what of a study does not read is noted in `display`.
    Raises one `UserError` with every study, trial or metric that is not known.

    >>> import orchestrator as po
    >>> po.compare("demo", "demo:7")
    Traceback (most recent call last):
    orchestrator.common.errors.BadStudy: demo: has no trial '7'; known: 0
    """
    from orchestrator.common.display import Display
    from orchestrator.common.errors import Mistakes
    from orchestrator.results.stored_study import known_metric
    from orchestrator.search.store.damage import damage
    from orchestrator.selection import comparison

    mistakes, snapshots, compared, shown = Mistakes(), {}, [], display or Display()
    parts = [system.partition(":") for system in systems]
    with mistakes.noted():
        metric = known_metric(metric)
    for name in dict.fromkeys(name for name, _, _ in parts):
        with mistakes.noted():
            snapshots[name] = load_study(name, home=home).store.snapshot()
            for line in damage(snapshots[name]):
                shown.note(line)
    mistakes.raise_all()
    for name, _, number in parts:
        with mistakes.noted():
            compared.append(comparison.compared_system(snapshots[name], number, metric))
    mistakes.raise_all()
    return comparison.compare(compared)


class Bundle:
    """A network that was exported, ready to predict.

    >>> import orchestrator as po
    >>> bundle = po.load_bundle("exported")
    >>> image = sorted(Path("frames/images").iterdir())[0]
    >>> bundle.predict(image).dtype
    dtype('bool')
    """

    def __init__(self, network: ExportedNetwork) -> None:
        self.network = network

    def predict(self, image: NDArray[np.uint8] | PathLike) -> NDArray[np.bool_]:
        """RGB uint8 (H, W, 3), or the path of an image -> mask bool (H, W), True where a polyp is."""
        return self.network.predict(self._pixels(image))[1]

    def probability(self, image: NDArray[np.uint8] | PathLike) -> NDArray[np.float32]:
        """RGB uint8 (H, W, 3), or the path of an image -> probability of a polyp float32 (H, W) in [0, 1]."""
        return self.network.predict(self._pixels(image))[0]

    def _pixels(self, image: NDArray[np.uint8] | PathLike) -> NDArray[np.uint8]:
        from orchestrator.data.images import read_image

        return read_image(Path(image).expanduser()) if isinstance(image, (str, Path)) else image


def load_bundle(folder: PathLike) -> Bundle:
    """A network that `export` wrote. Raises `BadBundle` with every file that is missing or damaged."""
    from orchestrator.results.export.bundle import Bundle as ExportedNetwork

    return Bundle(ExportedNetwork.load(Path(folder).expanduser()))
