"""Users' own folders: which contain images, which masks, and what their names say about part and group.

A path is read word by word. Words such as `images`, `Frame` or `GroundTruth` give the kind of content; the rest of
the path is the place, and images belong to the masks of the same place: `images/p1` and `masks/p1`, `p1/images` and
`p1/masks`, `train/train` and `train_gt/train_gt`, `imagesTr` and `labelsTr`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orchestrator.data.published.parts import WORD, WORDS
from orchestrator.data.sources.folders import is_image
from orchestrator.data.sources.match import separate_masks
from orchestrator.data.spelling import composed, folded

Kind = Literal["images", "masks", ""]
Place = tuple[str, ...]

IMAGES = {
    *(
        "images",
        "image",
        "imgs",
        "img",
        "frames",
        "frame",
        "originals",
        "original",
        "orig",
        "inputs",
        "input",
    ),
    *("photos", "pictures", "raw", "rgb"),
}
MASKS = {
    *(
        "masks",
        "mask",
        "gt",
        "gts",
        "gtpolyp",
        "groundtruth",
        "groundtruths",
        "labels",
        "label",
        "annotations",
        "annotation",
    ),
    *("ann", "anns", "annot", "annots", "segmentations", "segmentation", "segs", "seg"),
}
FORMATS = {  # without meaning next to such a word
    *("dir", "folder", "files", "png", "jpg", "jpeg", "bmp", "tif", "tiff", "class", "object"),
}
SPLITS = frozenset[str]().union(*WORDS.values())
EVIDENT = re.compile(  # a patient, video or lesion with its number: patient0, Patient_A3, seq2_neg, sub-01
    r"(patients?|pat|pt|p|cases?|videos?|vid|clips?|seq|sequences?|study|exam|examination|subjects?|subj|sub"
    r"|colonoscopy|procedure|person|lesions?|polyps?)[ _.-]*(id|no|nr|num)?[ _.-]*[a-z]?\d[\w .-]*",
    re.IGNORECASE,
)
CENTER = re.compile(r"(?i:centers?|centres?|hospitals?|sites?)[ _-]?(\d+|[A-Z])")
WEAK = {
    "polyps",
    "polyp",
    "original",
    "originals",
    "orig",
    "raw",
    "rgb",
    "input",
    "inputs",
}  # masks/polyps/ has masks


@dataclass(frozen=True)
class PathMeaning:
    """The meaning of a folder's path."""

    kind: Kind
    place: Place  # its names without the words for images and masks
    depth: (
        int  # number of names of `place` up to and including the word; later ones are below images/ or masks/
    )


@dataclass(frozen=True)
class OwnSet:
    """A folder of images with the folders that could contain its masks; empty for a folder of images only."""

    images: str
    masks: tuple[str, ...]
    meaning: PathMeaning


def read_path(folder: str) -> PathMeaning:
    """The meaning of a path: `train/images/p1` is images at (train, p1), with one name before the word."""
    kind: Kind = ""
    place: list[str] = []
    depth = 0
    for name in folder.split("/") if folder else ():
        here, rest = _read_name(name)
        if kind and name.lower() in WEAK:
            here, rest = "", name
        kind = here or kind
        place += [rest] if rest else []
        depth = len(place) if here else depth
    return PathMeaning(kind, tuple(place), depth if kind else len(place))


def _read_name(name: str) -> tuple[Kind, str]:
    """Kind and rest of a name: `train_gt` is masks of train, `Ground Truth` masks, `polyps` (the whole name) images."""
    if name.lower() in WEAK:
        return "images", ""
    parts = re.findall(r"[^\W_]+", re.sub(r"(?i)ground[ _-]?truth", " groundtruth ", name))
    words = [word for part in parts for word in WORD.findall(part) or [part]]
    lower = [word.lower() for word in words]
    kind: Kind = "masks" if MASKS & set(lower) else "images" if IMAGES & set(lower) else ""
    if not kind:
        return "", name
    said = IMAGES | MASKS | FORMATS
    return kind, "_".join(word for word, low in zip(words, lower, strict=True) if low not in said)


def find_own(
    files: Mapping[str, Sequence[Path]],
    images: str | None = None,
    masks: str | None = None,
    pattern: str = "",
) -> list[OwnSet]:
    """Folders of images, each with possible folders of masks; `images` and `masks` are named by the user."""
    pictures = {folder: [path for path in paths if is_image(path)] for folder, paths in files.items()}
    pictures = {folder: paths for folder, paths in pictures.items() if paths}
    # Names that all paths share are ignored: Kvasir-SEG/ is not a folder of masks.
    above = num_common([tuple(folder.split("/")) for folder in pictures])
    meanings = {folder: _meaning(folder, above, images, masks) for folder in pictures}
    by_place: dict[tuple[Kind, Place], list[str]] = defaultdict(list)
    for folder, meaning in meanings.items():
        by_place[meaning.kind, _folded(meaning.place)].append(folder)
    found = []
    for folder, meaning in meanings.items():
        place = _folded(meaning.place)
        if meaning.kind == "masks" or (images is not None and meaning.kind != "images"):
            continue
        drawn = by_place["masks", place]
        if images is not None and images == masks:
            drawn = [folder]
        elif not drawn and meaning.kind == "images":
            drawn = _one_deeper(by_place, place) or by_place["masks", place[: meaning.depth]]
        if (meaning.kind == "images" and drawn) or (drawn and not by_place["images", place]):
            found.append(OwnSet(folder, tuple(drawn), meaning))
        elif masks is None and separate_masks(pictures[folder], pattern)[1]:
            found.append(OwnSet(folder, (folder,), meaning))
    return found + _without_masks(meanings, found, images)


def _meaning(folder: str, above: int, images: str | None, masks: str | None) -> PathMeaning:
    """The meaning of a path below its first `above` names; folders that the user names have the kind given there."""
    options = (("images", images, masks), ("masks", masks, images))
    for kind, named, other in sorted(
        options, key=lambda option: -len(option[1] or "")
    ):  # --images . --masks masks
        if named is not None and (folder == named or not named or folder.startswith(f"{named}/")):
            below = Path(folder).relative_to(named or ".").parts
            upper = () if other is not None else read_path(_below(named.rpartition("/")[0], above)).place
            return PathMeaning("images" if kind == "images" else "masks", (*upper, *below), len(upper))
    meaning = read_path(_below(folder, above))
    given = {"images": images, "masks": masks}.get(meaning.kind)
    return meaning if given is None else PathMeaning("", (folder,), 1)


def _below(folder: str, above: int) -> str:
    return "/".join(folder.split("/")[above:])


def _one_deeper(by_place: Mapping[tuple[Kind, Place], list[str]], place: Place) -> list[str]:
    """Folders such as masks/0/ next to images/, as in sets of several classes."""
    return [
        folder
        for (kind, other), folders in by_place.items()
        for folder in folders
        if kind == "masks" and other[:-1] == place and not by_place.get(("images", other))
    ]


def _without_masks(
    meanings: Mapping[str, PathMeaning], found: Sequence[OwnSet], images: str | None
) -> list[OwnSet]:
    """Folders of images without masks that the user names, or siblings of folders with masks: maybe without polyps."""
    taken = {folder for own in found for folder in (own.images, *own.masks)}
    roots = {own.meaning.place[: own.meaning.depth] for own in found if own.meaning.kind == "images"}
    siblings = {
        (own.meaning.kind, own.meaning.place[:-1]) for own in found if _is_evident(own.meaning.place[-1:])
    }

    def among(meaning: PathMeaning) -> bool:
        below = (
            meaning.kind == "images"
            and meaning.place[: meaning.depth] in roots
            and len(meaning.place) > meaning.depth
        )
        return below or ((meaning.kind, meaning.place[:-1]) in siblings and _is_evident(meaning.place[-1:]))

    return [
        OwnSet(folder, (), meaning)
        for folder, meaning in meanings.items()
        if folder not in taken and (among(meaning) or (images is not None and meaning.kind == "images"))
    ]


def _is_evident(name: Place) -> bool:
    return bool(name and EVIDENT.fullmatch(name[0]))


def _folded(place: Place) -> Place:
    return tuple(folded(name) for name in place)


@dataclass(frozen=True)
class NameInfo:
    """Information about images in the names of their folders."""

    part: str
    group: str
    center: str
    place: str  # the remaining path


def name_info(own: OwnSet, common: int, groups: str) -> NameInfo:
    """Part, group and center; the `common` first names are equal for all sets. `groups` is folders, none or ""."""
    names = own.meaning.place[common:]
    depth = max(0, own.meaning.depth - common)
    free = [name for name in names if not is_split(name)]
    evident = next((n for n, name in enumerate(free) if EVIDENT.fullmatch(name)), None)
    chosen = free if groups == "folders" else free[: evident + 1] if evident is not None else []
    group = "" if groups == "none" else composed("_".join(chosen))
    center = next((name for name in free if CENTER.fullmatch(name)), "")
    no_part = {*(chosen if groups != "none" else free[evident:] if evident is not None else []), center}
    part = [name for n, name in enumerate(names) if is_split(name) or (n < depth and name not in no_part)]
    return NameInfo("/".join(part), group, center, "/".join(names))


def is_split(name: str) -> bool:
    """Whether a folder's name means train, val or test, as `TrainDataset` does."""
    words = [word.lower() for word in WORD.findall(name) if word.isalpha()]
    return bool(words) and set(words) <= SPLITS | {"set", "data", "dataset"} and bool(SPLITS & set(words))


def num_common(places: Sequence[Place]) -> int:
    """Number of leading names that all places share; all names if there is one place."""
    count = 0
    for names in zip(*places, strict=False):
        if len(set(names)) > 1:
            break
        count += 1
    return count
