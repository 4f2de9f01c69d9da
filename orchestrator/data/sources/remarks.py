"""What is said of an import: how its files were read, which of them were left, and where names have two readings."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from orchestrator.common.errors import BadData
from orchestrator.data.sources.folders import Contents, is_image
from orchestrator.data.sources.match import Matched, as_pattern, guessed_pattern, match
from orchestrator.data.sources.pairs import Pair, short
from orchestrator.data.sources.sets import Files, Folders, Task
from orchestrator.data.unusable import Bad


@dataclass
class Gathered:
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


def refuse_two_originals(task: Task, sets: Sequence[Folders]) -> None:
    """Folders of one's own that would share the masks of one place: the user picks which holds the images."""
    rivals = defaultdict(list)
    for folders in sets:
        if folders.layout.own and folders.masks and folders.images not in folders.masks:
            rivals[folders.masks, folders.named["place"]].append(folders)
    for (masks, _), shared in rivals.items():
        if len(shared) > 1:
            lines = [f"the images of {masks[0]}/ could be in {len(shared)} folders; pick one:"]
            lines += [
                f"  {one.num_frames} images: {task.command} --images {one.images!r} --masks {masks[0]!r}"
                for one in shared
            ]
            raise BadData(task.source, "\n".join(lines))


def ways_out(task: Task, gathered: Gathered) -> Iterable[str]:
    """Options that would make an import of what cannot be used as it is."""
    if gathered.without_mask:
        yield "if images without a mask show no polyp, --without-mask empty takes them so"
    if gathered.without_mask and gathered.without_image and not task.reading.pattern:
        yield "names that do not go together: --pattern '{name}_mask' says how a mask is named"


def no_names_fit(task: Task, gathered: Gathered) -> str:
    """Where images and masks have nothing in common by name."""
    images, masks = gathered.without_mask or gathered.drawn, gathered.without_image
    lines = [
        "no mask goes with an image by its name",
        f"  {len(images)} images, as {short(images[0])}; {len(masks)} masks, as {short(masks[0])}",
    ]
    pattern = guessed_pattern(images, masks) or "{name}_..."
    lines.append(f"  say how a mask is named: {task.command} --pattern {pattern!r}")
    return "\n".join(lines)


def two_names(task: Task, folders: Folders, found: Matched) -> str:
    """Where images have several masks each."""
    where = ", ".join(folders.masks) or "."
    lines = [f"images have several masks each in {where or '.'}/; pick the one that is meant:"]
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
    """Several folders that could hold the masks of one folder of images."""
    images = folders.images or "."
    lines = [f"the masks of {images}/ ({len(frames)} images) could be in {len(masks)} folders; pick one:"]
    for folder, paths in sorted(masks.items()):
        pairs = len(match(frames, paths, task.reading.pattern).pairs)
        lines.append(f"  {pairs} pairs: {task.command} --images {images!r} --masks {folder!r}")
    return "\n".join(lines)


def remarks_of(
    task: Task, gathered: Gathered, sets: Sequence[Folders], known: set[str], contents: Contents
) -> Iterable[str]:
    """A sentence about everything that is not plain; `known` folders belong to a set, chosen or not."""
    for form, n in gathered.forms.most_common():
        if len(gathered.forms) > 1 or form != "{name}":
            yield f"{n} pairs by name: image and mask as {gathered.examples[form]}, so {form}"
    groups = {pair.member.group for pair in gathered.pairs if pair.member.group}
    from_folders = {folders.group for folders in sets if folders.group and folders.layout.own}
    if groups and groups <= from_folders:
        yield f"{len(groups)} groups from folder names: {_some(sorted(groups))}; --groups none ignores them"
    elif not groups and task.reading.groups == "" and sets[0].layout.own and len(sets) > 1:
        names = sorted({folders.images for folders in sets})
        yield f"groups unknown: if {_some(names)} are of a patient or video each, import with --groups folders"
    centers = {folders.named.get("center") for folders in sets if folders.layout.own} - {"", None}
    if centers:
        yield f"{len(centers)} centers from folder names: {_some(sorted(map(str, centers)))}"
    if gathered.drawn:
        many = "images without a mask are" if len(gathered.drawn) > 1 else "image without a mask is"
        yield f"{len(gathered.drawn)} {many} taken as free of polyps (--without-mask empty)"
    passed = [*gathered.stray, *contents.litter]
    if passed:
        yield f"{len(passed)} file{'s are' if len(passed) > 1 else ' is'} passed over: {_some(passed)}"
    if contents.linked:
        many = "folders are" if len(contents.linked) > 1 else "folder is"
        yield f"{len(contents.linked)} {many} passed over, as links: {_some(list(contents.linked_in_words()))}"
    if gathered.unused:
        yield f"no mask of {_some([f'{folder}/' for folder in gathered.unused])} goes with an image by its name"
    if unread := _unread(task.files, known):
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


def in_words(sets: Sequence[Folders]) -> str:
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
