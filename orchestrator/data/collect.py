"""The files of the chosen folders -> pairs, what makes none, and a sentence about everything that is not plain."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from orchestrator.data.folders import is_image
from orchestrator.data.images import image_size, write_black_mask
from orchestrator.data.match import Matched, as_pattern, guessed_pattern, match, part_in_two
from orchestrator.data.pairs import (
    Bad,
    Membership,
    Pair,
    match_published,
    named,
    short,
    sorted_out,
    told_apart,
)
from orchestrator.data.sets import Files, Folders, Reading
from orchestrator.errors import BadData


@dataclass(frozen=True)
class Found:
    """What a source holds, before anything is decoded."""

    layout: str  # in words
    pairs: tuple[Pair, ...]  # sorted by stem
    bad: tuple[Bad, ...]  # files that make no pair
    remarks: tuple[str, ...]  # what was read otherwise than as it stands, passed over or taken from names
    empty: bool  # masks without a polyp belong here
    temporary: bool = False  # the pairs lie in the folder that goes away
    ways_out: tuple[str, ...] = ()  # what would make an import of `bad`


@dataclass
class _Gathered:
    """What has been found so far, over all folders."""

    pairs: list[Pair] = field(default_factory=list)
    leads: list[tuple[str, ...]] = field(default_factory=list)  # for each pair, what may lead its stem
    bad: list[Bad] = field(default_factory=list)
    forms: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)  # a pair of names for each form
    drawn: list[Path] = field(default_factory=list)  # images that were given a black mask by choice
    without_mask: list[Path] = field(default_factory=list)
    without_image: list[Path] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)  # folders of masks that go with no image


def collect(
    source: str,
    command: str,
    files: Files,
    sets: Sequence[Folders],
    known: set[str],
    reading: Reading,
    staging: Path,
    litter: Sequence[str],
) -> Found:
    """Pairs of the chosen `sets`; BadData where names have two readings, or none.

    `known` folders belong to a set, chosen or not. Black masks are drawn below `staging`. `temporary` of what is
    returned is to be set by the caller.
    """
    gathered = _Gathered()
    _refuse_two_originals(source, command, sets)
    for folders in sets:
        _gather(source, command, files, folders, reading, staging, gathered)
    if not gathered.pairs and gathered.without_mask and gathered.without_image:
        raise BadData(source, _no_names_fit(command, gathered))
    if reading.groups == "folders" and not any(pair.member.group for pair in gathered.pairs):
        raise BadData(
            "--groups folders", f"expected a folder for each group, found all images in {_in_words(sets)}"
        )
    bad = [*gathered.bad, *_unpaired(gathered), *_take_shared(gathered)]
    pairs, more = told_apart(gathered.pairs, gathered.leads)
    if not pairs and not bad:
        raise BadData(source, f"expected images with masks, found none in {_in_words(sets)}")
    return Found(
        layout=_in_words(sets)
        + (", masks named as their images" if set(gathered.forms) == {"{name}"} else ""),
        pairs=tuple(pairs),
        bad=(*bad, *more),
        remarks=tuple(_remarks(gathered, sets, files, known, reading, litter)),
        empty=any(folders.layout.empty for folders in sets) or reading.without_mask == "empty",
        ways_out=tuple(_ways_out(gathered, reading)),
    )


def _refuse_two_originals(source: str, command: str, sets: Sequence[Folders]) -> None:
    """Folders of one's own that would share the masks of one place: the user picks which holds the images."""
    rivals = defaultdict(list)
    for folders in sets:
        if folders.layout.own and folders.masks and folders.images not in folders.masks:
            rivals[folders.masks, folders.named["place"]].append(folders)
    for (masks, _), shared in rivals.items():
        if len(shared) > 1:
            lines = [f"the images of {masks[0]}/ could be in {len(shared)} folders; pick one:"]
            lines += [
                f"  {one.num_frames} images: {command} --images {one.images!r} --masks {masks[0]!r}"
                for one in shared
            ]
            raise BadData(source, "\n".join(lines))


def _gather(
    source: str,
    command: str,
    files: Files,
    folders: Folders,
    reading: Reading,
    staging: Path,
    gathered: _Gathered,
) -> None:
    layout = folders.layout
    inside = {folder: sorted_out(files[folder], layout.skip) for folder in (folders.images, *folders.masks)}
    for folder, here in inside.items():
        gathered.bad += here.bad
        gathered.stray += [f"{folder}/{path.name}".strip("/") for path in here.stray]
    frames = inside[folders.images].pictures
    if len(folders.masks) > 1:
        masks = [
            name for name in folders.masks if match(frames, inside[name].pictures, reading.pattern).pairs
        ]
        gathered.unused += sorted(set(folders.masks) - set(masks))
        folders = replace(folders, masks=tuple(masks or folders.masks))
    found = _matched(
        source, command, folders, {name: here.pictures for name, here in inside.items()}, reading
    )
    if not layout.masks and not layout.own:
        found = replace(_drawn(folders.images, frames, staging, gathered), doubled=found.doubled)
    elif reading.without_mask == "empty" and found.without_mask:
        gathered.drawn += found.without_mask
        black = _drawn(folders.images, found.without_mask, staging, gathered)
        found = replace(found, pairs=(*found.pairs, *black.pairs), without_mask=())
    _add(folders, found, reading, gathered)


def _matched(
    source: str, command: str, folders: Folders, pictures: Mapping[str, Sequence[Path]], reading: Reading
) -> Matched:
    layout, frames = folders.layout, pictures[folders.images]
    by_folder = {folder: pictures[folder] for folder in folders.masks}
    if folders.images in by_folder:
        frames, masks = _in_one_folder(folders, frames, reading)
        by_folder = {folders.images: masks}
    if len(by_folder) > 1:
        by_folder = {
            f: masks for f, masks in by_folder.items() if match(frames, masks, reading.pattern).pairs
        }
    if len(by_folder) > 1:
        raise BadData(source, _two_folders(command, folders, frames, by_folder, reading))
    masks = [path for paths in by_folder.values() for path in paths]
    if not layout.own:
        return match_published(frames, masks, frame=layout.frame, mask=layout.mask)
    found = match(frames, masks, reading.pattern)
    if found.readings:
        raise BadData(source, _two_names(command, folders, found))
    return found


def _in_one_folder(
    folders: Folders, paths: Sequence[Path], reading: Reading
) -> tuple[Sequence[Path], Sequence[Path]]:
    if folders.layout.own:
        return part_in_two(paths, reading.pattern)
    masks = [path for path in paths if named(folders.layout.mask, path.stem)]
    return [path for path in paths if path not in set(masks)], masks


def _add(folders: Folders, found: Matched, reading: Reading, gathered: _Gathered) -> None:
    layout = folders.layout
    stem = (lambda path: path.stem) if layout.own else (lambda path: named(layout.frame, path.stem))
    pairs = [Pair(stem(image) or image.stem, image, mask) for image, mask in found.pairs]
    pairs.sort(key=lambda pair: pair.stem)
    here = Membership(folders.group, folders.named.get("center", ""))
    members = layout.members(pairs) if reading.groups != "none" else {}
    if reading.groups == "none":
        here = replace(here, group="")
    gathered.pairs += [replace(pair, member=members.get(pair.stem, here)) for pair in pairs]
    place = folders.named["place"] if layout.own else folders.part.strip(".")
    name = Path(place).name if layout.own else folders.group or Path(place).name
    leads = [name, place.replace("/", "_"), folders.images.replace("/", "_")]
    gathered.leads += [tuple(lead for lead in leads if lead)] * len(pairs)
    gathered.forms.update(found.forms)
    for (image, mask), form in zip(found.pairs, found.forms, strict=False):
        gathered.examples.setdefault(form, f"{image.name} and {mask.name}")
    gathered.without_mask += found.without_mask
    gathered.without_image += found.without_image
    gathered.bad += [
        Bad(short(path), f"{first.name} has the same stem; keep one", path.stem)
        for path, first in found.doubled
    ]


def _drawn(images: str, frames: Sequence[Path], staging: Path, gathered: _Gathered) -> Matched:
    """Each image with a black mask of its size, drawn below `staging`."""
    pairs: list[tuple[Path, Path]] = []
    folder = staging / "black masks" / images
    folder.mkdir(parents=True, exist_ok=True)
    for frame in frames:
        try:
            height, width = image_size(frame)
        except BadData as error:
            gathered.bad += [Bad(short(frame), problem, frame.stem) for problem in error.problems]
            continue
        mask = folder / f"{frame.stem}.bmp"
        write_black_mask(mask, height, width)
        pairs.append((frame, mask))
    return Matched(tuple(pairs))


def _unpaired(gathered: _Gathered) -> list[Bad]:
    lonely = [Bad(short(path), "no mask has this stem", path.stem) for path in sorted(gathered.without_mask)]
    left = set(gathered.without_image) - {pair.mask for pair in gathered.pairs}
    return lonely + [Bad(short(path), "no image has this stem", path.stem) for path in sorted(left)]


def _take_shared(gathered: _Gathered) -> list[Bad]:
    """Take out the pairs whose mask is that of two images, as where folders of images share a folder of masks."""
    times = Counter(pair.mask for pair in gathered.pairs)
    shared = [pair for pair in gathered.pairs if times[pair.mask] > 1]
    kept = [n for n, pair in enumerate(gathered.pairs) if times[pair.mask] == 1]
    gathered.pairs, gathered.leads = [gathered.pairs[n] for n in kept], [gathered.leads[n] for n in kept]
    return [
        Bad(
            short(pair.image),
            f"{short(pair.mask)} is by its name the mask of {times[pair.mask]} images",
            pair.stem,
        )
        for pair in shared
    ]


def _ways_out(gathered: _Gathered, reading: Reading) -> Iterable[str]:
    if gathered.without_mask:
        yield "if images without a mask show no polyp, --without-mask empty takes them so"
    if gathered.without_mask and gathered.without_image and not reading.pattern:
        yield "names that do not go together: --pattern '{name}_mask' says how a mask is named"


def _no_names_fit(command: str, gathered: _Gathered) -> str:
    images, masks = gathered.without_mask, gathered.without_image
    lines = [
        "no mask goes with an image by its name",
        f"  {len(images)} images, as {short(images[0])}; {len(masks)} masks, as {short(masks[0])}",
    ]
    pattern = guessed_pattern(images, masks) or "{name}_..."
    lines.append(f"  say how a mask is named: {command} --pattern {pattern!r}")
    return "\n".join(lines)


def _two_names(command: str, folders: Folders, found: Matched) -> str:
    where = ", ".join(folders.masks) or "."
    lines = [f"images have several masks each in {where or '.'}/; pick the one that is meant:"]
    lines += [f"  {n} named {form}: {command} --pattern {as_pattern(form)!r}" for form, n in found.readings]
    return "\n".join(lines)


def _two_folders(
    command: str,
    folders: Folders,
    frames: Sequence[Path],
    masks: Mapping[str, Sequence[Path]],
    reading: Reading,
) -> str:
    """Several folders that could hold the masks of one folder of images."""
    images = folders.images or "."
    lines = [f"the masks of {images}/ ({len(frames)} images) could be in {len(masks)} folders; pick one:"]
    for folder, paths in sorted(masks.items()):
        pairs = len(match(frames, paths, reading.pattern).pairs)
        lines.append(f"  {pairs} pairs: {command} --images {images!r} --masks {folder!r}")
    return "\n".join(lines)


def _remarks(
    gathered: _Gathered,
    sets: Sequence[Folders],
    files: Files,
    known: set[str],
    reading: Reading,
    litter: Sequence[str],
) -> Iterable[str]:
    for form, n in gathered.forms.most_common():
        if len(gathered.forms) > 1 or form != "{name}":
            yield f"{n} pairs by name: image and mask as {gathered.examples[form]}, so {form}"
    groups = {pair.member.group for pair in gathered.pairs if pair.member.group}
    from_folders = {folders.group for folders in sets if folders.group and folders.layout.own}
    if groups and groups <= from_folders:
        yield f"{len(groups)} groups from folder names: {_some(sorted(groups))}; --groups none ignores them"
    elif not groups and reading.groups == "" and sets[0].layout.own and len(sets) > 1:
        names = sorted({folders.images for folders in sets})
        yield f"groups unknown: if {_some(names)} are of a patient or video each, import with --groups folders"
    centers = {folders.named.get("center") for folders in sets if folders.layout.own} - {"", None}
    if centers:
        yield f"{len(centers)} centers from folder names: {_some(sorted(map(str, centers)))}"
    if gathered.drawn:
        many = "images without a mask are" if len(gathered.drawn) > 1 else "image without a mask is"
        yield f"{len(gathered.drawn)} {many} taken as free of polyps (--without-mask empty)"
    passed = [*gathered.stray, *(name for name in litter)]
    if passed:
        yield f"{len(passed)} file{'s are' if len(passed) > 1 else ' is'} passed over: {_some(passed)}"
    if gathered.unused:
        yield f"no mask of {_some([f'{folder}/' for folder in gathered.unused])} goes with an image by its name"
    if unread := _unread(files, known):
        yield f"not read: {unread}"


def _unread(files: Files, used: set[str], most: int = 6) -> str:
    """Folders with images that were neither chosen nor hold masks; where they are many, those that hold them."""
    counts = Counter(
        {
            folder: sum(map(is_image, paths))
            for folder, paths in files.items()
            if folder not in used and any(map(is_image, paths))
        }
    )
    while len(counts) > most and (deepest := max(folder.count("/") for folder in counts)):
        above: Counter[str] = Counter()
        for folder, n in counts.items():
            above[folder.rpartition("/")[0] if folder.count("/") == deepest else folder] += n
        counts = above
    texts = [f"{folder or '.'}/ ({n} images)" for folder, n in sorted(counts.items())]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more folders" if len(texts) > most else "")


def _in_words(sets: Sequence[Folders]) -> str:
    """PolypGen (images_C1/ + masks_C1/ ...; frames; sequences)"""
    texts = []
    for title, group in groupby(sets, key=lambda folders: folders.layout.title):
        here = list(group)
        parts = sorted({folders.part for folders in here if folders.layout.part != "{root}"} - {"."})
        shapes = list(dict.fromkeys(folders.layout.shape for folders in here))
        shape = shapes[0] + (
            f" and {len(shapes) - 1} more such folders" if len(shapes) > 1 and here[0].layout.own else ""
        )
        texts.append(f"{title} ({shape}{''.join(f'; {part}' for part in parts)})")
    return ", ".join(texts)


def _some(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
