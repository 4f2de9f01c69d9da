"""Cases, datasets, and how a folder or an archive of images and masks becomes one.

home/datasets/NAME holds the original bytes and dataset.json; it appears by one rename, whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from orchestrator.data.archives import Found, open_source
from orchestrator.data.groups import CENTER, GROUP, read_groups
from orchestrator.data.images import read_image, read_mask
from orchestrator.data.look import Facts, file_sha256, look_at, pair_sha256
from orchestrator.data.mask_rule import BLACK_AND_WHITE, MaskRule
from orchestrator.data.pairs import Membership, Pair
from orchestrator.data.verdict import remarks_of_set
from orchestrator.data.verify import JOURNAL, NUM_THREADS, Progress, copy_verified
from orchestrator.errors import BadData
from orchestrator.files import write_atomically

__all__ = [
    "Case",
    "Dataset",
    "add_dataset",
    "check_dataset",
    "list_datasets",
    "load_dataset",
    "load_datasets",
    "read_image",
    "read_mask",
]

MANIFEST = "dataset.json"
FORMAT = 1  # of dataset.json
RESERVED = ("test", "validation")  # what studies call their own cases


@dataclass(frozen=True)
class Case:
    """One image with its mask."""

    id: str  # "<dataset>/<stem>"
    dataset: str
    group: str  # a video, a patient; cases of one group never straddle a split
    center: str | None
    image: Path
    mask: Path
    height: int  # pixels, upright
    width: int
    polyp_fraction: float  # share of the frame, 0 to 1
    sha256: str  # of the bytes of both files
    image_sha256: str = ""  # of each; "" in datasets that were imported before these were kept
    mask_sha256: str = ""
    classes: tuple[str, ...] = ()  # of its polyps, as --mask-classes named them

    @property
    def class_name(self) -> str:
        """neoplastic, or both: neoplastic + non-neoplastic"""
        return " + ".join(self.classes)


@dataclass(frozen=True)
class Dataset:
    """A named collection of cases that never changes; its fingerprint follows from its content alone."""

    name: str
    folder: Path
    cases: tuple[Case, ...]  # sorted by id
    fingerprint: str  # 32 hex digits
    groups_known: bool
    layout: str = ""  # which published archive it was recognised as, in words
    remarks: tuple[
        str, ...
    ] = ()  # what was read otherwise than as it stands, or is not known: one sentence each


def add_dataset(
    home: Path,
    name: str,
    source: Path,
    *,
    parts: Sequence[str] = (),
    groups: Path | None = None,
    group_column: str = GROUP,
    center_column: str = CENTER,
    allow_empty: bool = False,
    rule: MaskRule = BLACK_AND_WHITE,
    on_progress: Progress | None = None,
) -> Dataset:
    """Copy and verify the pairs of a folder or an archive; every problem of every file comes in one BadData.

    `parts` picks from a source of several sets. Groups and centers are those of the archive, where it has them,
    unless the CSV `groups` gives others. `allow_empty` accepts masks without a polyp, as archives that are known
    to hold such frames do anyway. `rule` says what in a mask is polyp, where that is not plain. A killed import is
    taken up where it was. The same content under the same name is returned as it is.
    """
    _refuse_name(name)
    if not source.exists():
        raise BadData(str(source), "expected a folder, a zip or a tar archive, found nothing there")
    target = _datasets_folder(home) / name
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.with_name(f".{name}.unpacked")
    with _locked(target):
        _sweep(target.parent)
        with open_source(source, staging, parts, on_progress) as found:
            members, remarks, problems = _members(found, groups, group_column, center_column)
            problems = [*found.problems, *problems]
            if target.exists():
                return _same_or_refused(
                    load_dataset(home, name), source, found.pairs, members, rule, problems
                )
            partial = target.with_name(f".{name}.partial")
            facts, more = copy_verified(
                found.pairs,
                partial,
                allow_empty=allow_empty or found.empty,
                rule=rule,
                temporary=found.temporary,
                on_progress=on_progress,
            )
            if problems := problems + more:
                shutil.rmtree(partial)
                raise BadData(str(source), problems)
        cases = tuple(_case(name, target, pair, facts[pair.stem], members) for pair in found.pairs)
        fingerprint = _fingerprint({stem: fact.sha256 for stem, fact in facts.items()}, members)
        remarks += remarks_of_set(facts, rule)
        known = all(member.group for member in members.values())
        dataset = Dataset(name, target, cases, fingerprint, known, found.layout, tuple(remarks))
        _write_manifest(dataset, partial)
        (partial / JOURNAL).unlink()
        partial.replace(target)
    return dataset


def _members(
    found: Found, groups: Path | None, group_column: str, center_column: str
) -> tuple[dict[str, Membership], list[str], list[str]]:
    """Where each case comes from, and remarks and problems: what the CSV has no column for is as the archive has it."""
    members = {pair.stem: pair.member for pair in found.pairs}
    if groups is None:
        return members, [], []
    table = read_groups(groups, list(members), group_column, center_column)
    for stem, member in table.members.items():
        here = members[stem]
        group = member.group if table.has_groups else here.group
        members[stem] = Membership(group, member.center or here.center)
    return members, list(table.remarks), list(table.problems)


def _locked(target: Path, timeout_s: float = -1) -> FileLock:
    return FileLock(target.with_name(f".{target.name}.lock"), timeout=timeout_s)


def _sweep(folder: Path) -> None:
    """Remove what killed imports have unpacked; one that is under way holds its lock and is left alone."""
    for left in folder.glob(".*.unpacked"):
        target = folder / left.name[1:].removesuffix(".unpacked")
        with suppress(Timeout), _locked(target, timeout_s=0):
            shutil.rmtree(left, ignore_errors=True)


def load_dataset(home: Path, name: str) -> Dataset:
    """The dataset of that name; BadData lists the known ones when there is none."""
    (dataset,) = load_datasets(home, [name])
    return dataset


def load_datasets(home: Path, names: Sequence[str]) -> tuple[Dataset, ...]:
    """The datasets of those names, in that order; all unknown names come in one BadData."""
    known = _known_names(home)
    listed = ", ".join(known) or "none yet; add one first"
    problems = [f"no dataset is named {name!r}; known: {listed}" for name in names if name not in known]
    if problems:
        raise BadData(str(home), problems)
    return tuple(_read_manifest(_datasets_folder(home) / name) for name in names)


def list_datasets(home: Path) -> tuple[Dataset, ...]:
    """All complete datasets, by name."""
    return load_datasets(home, _known_names(home))


def check_dataset(dataset: Dataset, on_progress: Progress | None = None) -> list[str]:
    """Read every file again: every problem in words, empty when all is as it was imported."""
    problems = []
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for done, found in enumerate(pool.map(_check_case, dataset.cases), start=1):
            problems += found
            if on_progress:
                on_progress(done, len(dataset.cases))
    expected = {path for case in dataset.cases for path in (case.image, case.mask)}
    present = {path for folder in ("images", "masks") for path in (dataset.folder / folder).glob("*")}
    problems += [f"{path.parent.name}/{path.name}: was not imported" for path in sorted(present - expected)]
    return problems


def _check_case(case: Case) -> list[str]:
    missing = [
        f"{path.parent.name}/{path.name}: is gone" for path in (case.image, case.mask) if not path.exists()
    ]
    if missing:
        return missing
    problems = []
    for read, path in ((read_image, case.image), (read_mask, case.mask)):
        try:
            read(path)
        except BadData as error:
            problems += [f"{path.parent.name}/{path.name}: {problem}" for problem in error.problems]
    if problems:
        return problems
    same = pair_sha256(file_sha256(case.image), file_sha256(case.mask)) == case.sha256
    return [] if same else [f"{case.id}: the bytes are not those that were imported"]


def _refuse_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise BadData(
            name or "''", "expected a dataset name of letters, digits, '.', '_' and '-', as in Kvasir-SEG"
        )
    if name in RESERVED:
        raise BadData(name, "is what tables call a part of every study; choose another name for a dataset")


def _datasets_folder(home: Path) -> Path:
    return home.expanduser().resolve() / "datasets"


def _known_names(home: Path) -> list[str]:
    return sorted(path.parent.name for path in _datasets_folder(home).glob(f"[!.]*/{MANIFEST}"))


def _case(name: str, folder: Path, pair: Pair, facts: Facts, members: Mapping[str, Membership]) -> Case:
    member = members.get(pair.stem, Membership())
    return Case(
        id=f"{name}/{pair.stem}",
        dataset=name,
        # A case without a group is one of its own; "image:" keeps frame 1 apart from video 1.
        group=f"{name}/{member.group or f'image:{pair.stem}'}",
        center=member.center or None,
        image=folder / "images" / pair.image_name,
        mask=folder / "masks" / (f"{pair.stem}.bmp" if facts.drawn_again else pair.mask_name),
        height=facts.height,
        width=facts.width,
        polyp_fraction=facts.polyp_fraction,
        sha256=facts.sha256,
        image_sha256=facts.image_sha256,
        mask_sha256=facts.mask_sha256,
        classes=tuple(facts.classes),
    )


def _fingerprint(hashes: Mapping[str, str], members: Mapping[str, Membership]) -> str:
    """32 hex digits from stem, bytes, group and center of every case: not from the dataset's name."""
    lines = [(stem, hashes[stem], *astuple(members.get(stem, Membership()))) for stem in sorted(hashes)]
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()[:32]


def _same_or_refused(
    dataset: Dataset,
    source: Path,
    pairs: Sequence[Pair],
    members: Mapping[str, Membership],
    rule: MaskRule,
    problems: Sequence[str],
) -> Dataset:
    if problems:
        raise BadData(str(source), problems)
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        looks = list(pool.map(lambda pair: look_at(pair.image, pair.mask, rule)[0], pairs))
    found = {pair.stem: look for pair, look in zip(pairs, looks, strict=True)}
    same = _fingerprint({stem: look.sha256 for stem, look in found.items()}, members) == dataset.fingerprint
    if not same or [case.classes for case in dataset.cases] != [tuple(look.classes) for look in looks]:
        raise BadData(
            dataset.name,
            f"a dataset of this name holds other images, masks, groups, centers or classes than {source}; "
            f"choose another name, or remove {dataset.folder}",
        )
    return dataset


def _write_manifest(dataset: Dataset, folder: Path) -> None:
    content = {
        "format": FORMAT,
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "groups_known": dataset.groups_known,
        "layout": dataset.layout,
        "remarks": dataset.remarks,
        "cases": [
            {
                "id": case.id,
                "image": case.image.name,
                "mask": case.mask.name,
                "group": case.group,
                "center": case.center,
                "height": case.height,
                "width": case.width,
                "polyp_fraction": case.polyp_fraction,
                "sha256": case.sha256,
                "image_sha256": case.image_sha256,
                "mask_sha256": case.mask_sha256,
                **({"classes": case.classes} if case.classes else {}),
            }
            for case in dataset.cases
        ],
    }
    write_atomically(folder / MANIFEST, json.dumps(content, indent=1).encode())


def _read_manifest(folder: Path) -> Dataset:
    content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if content["format"] != FORMAT:
        raise BadData(
            str(folder), f"was written in format {content['format']}, expected {FORMAT}; add it again"
        )
    cases = [
        Case(
            **{
                **entry,
                "dataset": content["name"],
                "image": folder / "images" / entry["image"],
                "mask": folder / "masks" / entry["mask"],
                "classes": tuple(entry.get("classes", ())),
            }
        )
        for entry in content["cases"]
    ]
    return Dataset(
        content["name"],
        folder,
        tuple(cases),
        content["fingerprint"],
        content["groups_known"],
        content.get("layout", ""),  # datasets of 0.1 have none
        tuple(content.get("remarks", ())),
    )
