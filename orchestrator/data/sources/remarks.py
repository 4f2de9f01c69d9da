"""Remarks on an import: naming schemes, ignored files, and errors for ambiguous names."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from orchestrator.common.display import counted
from orchestrator.common.errors import BadData
from orchestrator.data.published.about import meaning_of, notes_on
from orchestrator.data.published.parts import role_of
from orchestrator.data.sources.folders import Contents, is_image
from orchestrator.data.sources.match import Matched, as_pattern, guessed_pattern, match
from orchestrator.data.sources.pairs import Pair, short
from orchestrator.data.sources.sets import Files, Folders, Task
from orchestrator.data.unusable import Bad

MOST_NAMED = 5  # parts in the description of a layout


@dataclass
class Gathered:
    """Findings over all folders so far."""

    pairs: list[Pair] = field(default_factory=list)
    prefixes: list[tuple[str, ...]] = field(
        default_factory=list
    )  # for each pair, those that may make its stem unique
    bad: list[Bad] = field(default_factory=list)
    forms: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)  # a pair of names for each form
    drawn: list[Path] = field(default_factory=list)  # images that got a black mask, by the user's choice
    without_mask: list[Path] = field(default_factory=list)
    without_image: list[Path] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)  # folders of masks that match no image
    remarks: list[str] = field(default_factory=list)  # on lists of published parts


def refuse_two_originals(task: Task, sets: Sequence[Folders]) -> None:
    """BadData if several of the user's folders would share the masks of one place: the user picks one."""
    candidates = defaultdict(list)
    for folders in sets:
        if folders.layout.own and folders.masks and folders.images not in folders.masks:
            candidates[folders.masks, folders.named["place"]].append(folders)
    for (masks, _), shared in candidates.items():
        if len(shared) > 1:
            lines = [f"the images of {masks[0]}/ could be in {len(shared)} folders; pick one:"]
            lines += [
                f"  {one.num_frames} images: {task.command} --images {one.images!r} --masks {masks[0]!r}"
                for one in shared
            ]
            raise BadData(task.source, "\n".join(lines))


def remedies(task: Task, gathered: Gathered) -> Iterable[str]:
    """Options with which unusable files could be imported."""
    if gathered.without_mask:
        yield "if images without a mask show no polyp, --without-mask empty takes them as polyp-free"
    if gathered.without_mask and gathered.without_image and not task.reading.pattern:
        yield "if names do not match: --pattern '{name}_mask' describes the name of a mask"


def no_names_fit(task: Task, gathered: Gathered) -> str:
    """Error text for images and masks whose names do not match."""
    images, masks = gathered.without_mask or gathered.drawn, gathered.without_image
    lines = [
        "no mask matches an image by name",
        f"  {len(images)} images, as {short(images[0])}; {len(masks)} masks, as {short(masks[0])}",
    ]
    pattern = guessed_pattern(images, masks) or "{name}_..."
    lines.append(f"  describe the name of a mask: {task.command} --pattern {pattern!r}")
    return "\n".join(lines)


def two_names(task: Task, folders: Folders, found: Matched) -> str:
    """Error text for images with several masks each."""
    where = ", ".join(folders.masks) or "."
    lines = [f"images have several masks each in {where}/; pick one naming scheme:"]
    lines += [
        f"  {n} named {form}: {task.command} --pattern {as_pattern(form)!r}" for form, n in found.readings
    ]
    return "\n".join(lines)


def two_folders(
    task: Task,
    folders: Folders,
    frames: Sequence[Path],
    masks: Mapping[str, Sequence[Path]],
) -> str:
    """Error text for several folders that could contain the masks of one folder of images."""
    images = folders.images or "."
    lines = [
        f"the masks of {images}/ ({counted(len(frames), 'image')}) could be in {len(masks)} folders; pick one:"
    ]
    for folder, paths in sorted(masks.items()):
        pairs = len(match(frames, paths, task.reading.pattern).pairs)
        lines.append(f"  {pairs} pairs: {task.command} --images {images!r} --masks {folder!r}")
    return "\n".join(lines)


def remarks_of(
    task: Task, gathered: Gathered, sets: Sequence[Folders], known: set[str], contents: Contents
) -> Iterable[str]:
    """A sentence on every irregularity; `known`: folders that belong to any set."""
    for form, n in gathered.forms.most_common():
        if len(gathered.forms) > 1 or form != "{name}":
            yield f"{n} pairs by name: image and mask as {gathered.examples[form]}, so {form}"
    groups = {pair.member.group for pair in gathered.pairs if pair.member.group}
    from_folders = {folders.group for folders in sets if folders.group and folders.layout.own}
    if groups and groups <= from_folders:
        yield f"{len(groups)} groups from folder names: {_some(sorted(groups))}; --groups none ignores them"
    elif not groups and task.reading.groups == "" and sets[0].layout.own and not _are_splits(sets):
        names = sorted({folders.images for folders in sets})
        yield f"groups unknown: if {_some(names)} are of a patient or video each, import with --groups folders"
    centers = {folders.named.get("center") for folders in sets if folders.layout.own} - {"", None}
    if centers:
        yield f"{len(centers)} centers from folder names: {_some(sorted(map(str, centers)))}"
    if gathered.drawn:
        many = "images without a mask are" if len(gathered.drawn) > 1 else "image without a mask is"
        yield f"{len(gathered.drawn)} {many} taken as polyp-free (--without-mask empty)"
    passed = [*gathered.stray, *contents.litter]
    if passed:
        yield f"{len(passed)} file{'s are' if len(passed) > 1 else ' is'} ignored: {_some(passed)}"
    if contents.linked:
        many = "folders are" if len(contents.linked) > 1 else "folder is"
        yield f"{len(contents.linked)} {many} ignored, as links: {_some(list(contents.linked_texts()))}"
    if gathered.unused:
        yield f"no mask of {_some([f'{folder}/' for folder in gathered.unused])} matches an image by name"
    titles = list(dict.fromkeys(folders.layout.title for folders in sets))
    if unread := _unread(task.files, known, titles):
        yield f"not read: {unread}"
    yield from notes_on(titles)
    yield from gathered.remarks


def _are_splits(sets: Sequence[Folders]) -> bool:
    """Whether there is one set, or each is a part to train, validate or test on."""
    return len(sets) < 2 or all(role_of(folders.part) for folders in sets)


def parts_remark(pairs: Iterable[Pair]) -> list[str]:
    """The published parts with their sizes, and how to train and test by them; empty if there are none."""
    counts = Counter(pair.part for pair in pairs if pair.part)
    roles = {role_of(part) for part in counts}
    if len(counts) < 2 or "train" not in roles or not roles & {"val", "test"}:
        return []
    shown = _some([f"{part} ({n})" for part, n in counts.items()])
    return [f"published parts: {shown}; --splits published trains, validates and tests by them"]


def _unread(files: Files, used: set[str], titles: Sequence[str], most: int = 6) -> str:
    """Folders with images that belong to no set, with their meaning if known; parent folders if there are many."""
    left = {
        folder: sum(map(is_image, paths))
        for folder, paths in files.items()
        if folder not in used and any(map(is_image, paths))
    }
    meanings: dict[str, Counter[str]] = defaultdict(Counter)
    for folder, n in left.items():
        meanings[meaning_of(folder, titles)][folder] = n
    others = _merged(meanings.pop("", Counter()), most)
    known = [
        f"{_common_place(counts, meaning, titles)} ({counted(sum(counts.values()), 'image')}): {meaning}"
        for meaning, counts in sorted(meanings.items())
    ]
    return "; ".join([*known, *([others] if others else [])])


def _common_place(folders: Iterable[str], meaning: str, titles: Sequence[str]) -> str:
    """The folder that contains all of these, or a name that they share, if it has their meaning: Edge/, void/."""
    ordered = sorted(folders)
    names = set.intersection(*(set(folder.split("/")) for folder in ordered))
    for place in (os.path.commonpath(ordered), *(name for name in ordered[0].split("/") if name in names)):
        if place and meaning_of(place, titles) == meaning:
            return f"{place}/"
    return f"{len(ordered)} folders as {ordered[0]}/" if len(ordered) > 1 else f"{ordered[0]}/"


def _merged(counts: Counter[str], most: int) -> str:
    while len(counts) > most and (deepest := max(folder.count("/") for folder in counts)):
        above: Counter[str] = Counter()
        for folder, n in counts.items():
            above[folder.rpartition("/")[0] if folder.count("/") == deepest else folder] += n
        counts = above
    texts = [f"{folder or '.'}/ ({counted(n, 'image')})" for folder, n in sorted(counts.items())]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more folders" if len(texts) > most else "")


def describe_sets(sets: Sequence[Folders]) -> str:
    """The sets as `PolypGen (images_C1/ + masks_C1/ ...; frames; sequences)`."""
    texts = []
    for title, group in groupby(sets, key=lambda folders: folders.layout.title):
        here = list(group)
        parts = sorted({folders.part for folders in here if folders.layout.part != "{root}"} - {"."})
        shapes = list(dict.fromkeys(folders.layout.shape for folders in here))
        shape = shapes[0] + (
            f" and {len(shapes) - 1} more such folders" if len(shapes) > 1 and here[0].layout.own else ""
        )
        more = [f"{len(parts) - MOST_NAMED} more parts"] if len(parts) > MOST_NAMED else []
        texts.append(f"{title} ({'; '.join([shape, *parts[:MOST_NAMED], *more])})")
    return ", ".join(texts)


def _some(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
