"""The files of the chosen folders as pairs, the files without a partner, and remarks on every irregularity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.common.errors import BadData
from orchestrator.data.images import image_size, write_black_mask
from orchestrator.data.published.about import ABOUT, About
from orchestrator.data.published.labels import FILE as LABELS_FILE
from orchestrator.data.published.labels import stated_labels
from orchestrator.data.published.parts import listed_parts, lists_among
from orchestrator.data.sources.folders import Contents
from orchestrator.data.sources.match import Matched, match, separate_masks
from orchestrator.data.sources.pairs import (
    Membership,
    Pair,
    classify_files,
    match_published,
    named,
    unique_stems,
)
from orchestrator.data.sources.remarks import (
    Gathered,
    describe_sets,
    no_names_fit,
    parts_remark,
    refuse_two_originals,
    remarks_of,
    remedies,
    two_folders,
    two_names,
)
from orchestrator.data.sources.sets import Folders, Task
from orchestrator.data.spelling import difference_text
from orchestrator.data.unusable import Bad


@dataclass(frozen=True)
class Found:
    """Content of a source before any image is decoded."""

    layout: str  # for people
    pairs: tuple[Pair, ...]  # sorted by stem
    bad: tuple[Bad, ...]  # files that make no pair
    remarks: tuple[str, ...]  # on files that were converted or ignored, and on what follows from names
    empty: bool  # whether masks without a polyp are expected
    temporary: bool = False  # whether the pairs lie in the staging folder
    remedies: tuple[str, ...] = ()  # options with which `bad` could be imported
    classes: tuple[
        str, ...
    ] = ()  # what the archive states of colors or labels of masks, as for --mask-classes


def collect(task: Task, sets: Sequence[Folders], known: set[str], contents: Contents) -> Found:
    """Pairs of the chosen `sets`; BadData where names are ambiguous, or match nowhere.

    `known`: folders that belong to any set. Black masks are written below the staging folder. The caller sets
    `temporary` of the result.
    """
    gathered = Gathered()
    if refused := [folders.layout for folders in sets if folders.layout.refused]:
        raise BadData(task.source, f"{refused[0].title}: {refused[0].refused}")
    refuse_two_originals(task, sets)
    for folders in sets:
        _gather(task, folders, gathered)
    # No mask matched: black masks by --without-mask must not replace masks with other names.
    unpaired = gathered.without_mask or gathered.drawn
    if len(gathered.pairs) == len(gathered.drawn) and unpaired and gathered.without_image:
        raise BadData(task.source, no_names_fit(task, gathered))
    if task.reading.groups == "folders" and not any(pair.member.group for pair in gathered.pairs):
        raise BadData(
            "--groups folders", f"expected a folder for each group, found all images in {describe_sets(sets)}"
        )
    bad = [*gathered.bad, *_unpaired(task, gathered), *_take_shared(task, gathered)]
    pairs, more = unique_stems(_in_parts(task, sets, gathered), gathered.prefixes)
    if not pairs and not bad:
        raise BadData(task.source, f"expected images with masks, found none in {describe_sets(sets)}")
    return Found(
        layout=describe_sets(sets)
        + (", masks named as their images" if set(gathered.forms) == {"{name}"} else ""),
        pairs=tuple(pairs),
        bad=(*bad, *more),
        remarks=(*remarks_of(task, gathered, sets, known, contents), *parts_remark(pairs)),
        empty=any(folders.layout.empty for folders in sets) or task.reading.without_mask == "empty",
        remedies=tuple(remedies(task, gathered)),
        classes=_stated_classes(task, sets),
    )


def _in_parts(task: Task, sets: Sequence[Folders], gathered: Gathered) -> list[Pair]:
    """Pairs with the part of the archive that each is from: by folders, or by lists such as train.txt."""
    if len({folders.part for folders in sets}) > 1:
        return gathered.pairs
    lists = lists_among(task.files, [folders.images for folders in sets])
    part_of, remark = listed_parts(lists, {pair.image.stem for pair in gathered.pairs})
    gathered.remarks += [remark] if remark else []
    return [replace(pair, part=part_of.get(pair.image.stem, "")) for pair in gathered.pairs]


def _stated_classes(task: Task, sets: Sequence[Folders]) -> tuple[str, ...]:
    """Colors or labels of masks with their meaning, as the archive's authors state them; empty if they differ."""
    stated = set()
    for folders in sets:
        layout = folders.layout
        place = layout.labels.format(**folders.named).strip("/") if layout.labels else None
        inside = task.files.get(place, ()) if place is not None else ()
        labels = [stated_labels(path) for path in inside if path.name == LABELS_FILE]
        stated.add(labels[0] if labels else ABOUT.get(layout.title, About()).classes)
    return stated.pop() if len(stated) == 1 else ()


def _gather(task: Task, folders: Folders, gathered: Gathered) -> None:
    layout = folders.layout
    inside = {
        folder: classify_files(task.files[folder], layout.skip) for folder in (folders.images, *folders.masks)
    }
    for folder, here in inside.items():
        gathered.bad += here.bad
        gathered.stray += [f"{folder}/{path.name}".strip("/") for path in here.stray]
    frames = inside[folders.images].pictures
    if len(folders.masks) > 1:
        masks = [
            name for name in folders.masks if match(frames, inside[name].pictures, task.reading.pattern).pairs
        ]
        gathered.unused += sorted(set(folders.masks) - set(masks))
        folders = replace(folders, masks=tuple(masks or folders.masks))
    found = _matched(task, folders, {name: here.pictures for name, here in inside.items()})
    if not layout.masks and not layout.own:
        found = replace(_drawn(task, folders.images, frames, gathered), doubled=found.doubled)
    elif task.reading.without_mask == "empty" and found.without_mask:
        gathered.drawn += found.without_mask
        black = _drawn(task, folders.images, found.without_mask, gathered)
        found = replace(found, pairs=(*found.pairs, *black.pairs), without_mask=())
    _add(task, folders, found, gathered)


def _matched(task: Task, folders: Folders, pictures: Mapping[str, Sequence[Path]]) -> Matched:
    layout, frames = folders.layout, pictures[folders.images]
    by_folder = {folder: pictures[folder] for folder in folders.masks}
    if folders.images in by_folder:
        frames, masks = _in_one_folder(task, folders, frames)
        by_folder = {folders.images: masks}
    if len(by_folder) > 1:
        raise BadData(task.source, two_folders(task, folders, frames, by_folder))
    masks = [path for paths in by_folder.values() for path in paths]
    if not layout.own:
        return match_published(frames, masks, frame=layout.frame, mask=layout.mask)
    found = match(frames, masks, task.reading.pattern)
    if found.readings:
        raise BadData(task.source, two_names(task, folders, found))
    return found


def _in_one_folder(
    task: Task, folders: Folders, paths: Sequence[Path]
) -> tuple[Sequence[Path], Sequence[Path]]:
    if folders.layout.own:
        return separate_masks(paths, task.reading.pattern)
    masks = [path for path in paths if named(folders.layout.mask, path.stem)]
    return [path for path in paths if path not in set(masks)], masks


def _add(task: Task, folders: Folders, found: Matched, gathered: Gathered) -> None:
    layout = folders.layout
    stem = (lambda path: path.stem) if layout.own else (lambda path: named(layout.frame, path.stem))
    part = "" if folders.part == "." else folders.part
    pairs = [Pair(stem(image) or image.stem, image, mask, part=part) for image, mask in found.pairs]
    pairs.sort(key=lambda pair: pair.stem)
    here = Membership(folders.group, folders.named.get("center", ""))
    members = layout.members(pairs) if task.reading.groups != "none" else {}
    if task.reading.groups == "none":
        here = replace(here, group="")
    gathered.pairs += [replace(pair, member=members.get(pair.stem, here)) for pair in pairs]
    place = folders.named["place"] if layout.own else folders.part.strip(".")
    name = Path(place).name if layout.own else folders.group or Path(place).name
    prefixes = [name, place.replace("/", "_"), folders.images.replace("/", "_")]
    gathered.prefixes += [tuple(prefix for prefix in prefixes if prefix)] * len(pairs)
    gathered.forms.update(found.forms)
    for (image, mask), form in zip(found.pairs, found.forms, strict=False):
        gathered.examples.setdefault(form, f"{image.name} and {mask.name}")
    gathered.without_mask += found.without_mask
    gathered.without_image += found.without_image
    gathered.bad += [
        Bad(
            task.place_of(path),
            f"{first.name} has the same stem{difference_text(path.stem, first.stem)}; keep one",
            path.stem,
        )
        for path, first in found.doubled
    ]


def _drawn(task: Task, images: str, frames: Sequence[Path], gathered: Gathered) -> Matched:
    """Each image with a black mask of its size, written below the staging folder."""
    pairs: list[tuple[Path, Path]] = []
    folder = task.staging / "black masks" / images
    folder.mkdir(parents=True, exist_ok=True)
    for frame in frames:
        try:
            height, width = image_size(frame)
        except BadData as error:
            gathered.bad += [Bad(task.place_of(frame), problem, frame.stem) for problem in error.problems]
            continue
        mask = folder / f"{frame.stem}.bmp"
        write_black_mask(mask, height, width)
        pairs.append((frame, mask))
    return Matched(tuple(pairs))


def _unpaired(task: Task, gathered: Gathered) -> list[Bad]:
    reasons = dict.fromkeys(sorted(gathered.without_mask), "no mask has this stem")
    left = set(gathered.without_image) - {pair.mask for pair in gathered.pairs}
    reasons |= dict.fromkeys(sorted(left), "no image has this stem")
    return [Bad(task.place_of(path), why, path.stem) for path, why in reasons.items()]


def _take_shared(task: Task, gathered: Gathered) -> list[Bad]:
    """Remove and report pairs whose mask belongs to several images, as in folders that share a folder of masks."""
    times = Counter(pair.mask for pair in gathered.pairs)
    shared = [pair for pair in gathered.pairs if times[pair.mask] > 1]
    kept = [n for n, pair in enumerate(gathered.pairs) if times[pair.mask] == 1]
    gathered.pairs, gathered.prefixes = (
        [gathered.pairs[n] for n in kept],
        [gathered.prefixes[n] for n in kept],
    )
    return [
        Bad(
            task.place_of(pair.image),
            f"{task.place_of(pair.mask)} matches {times[pair.mask]} images by name",
            pair.stem,
        )
        for pair in shared
    ]
