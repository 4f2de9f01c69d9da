"""Folders of one's own: which holds images, which their masks, and what a folder's name says about part and group.

A path is read word by word. Words such as `images`, `Frame` or `GroundTruth` say what is inside; what is left when
they are taken away is the place, and images go with the masks of the same place: `images/p1` and `masks/p1`,
`p1/images` and `p1/masks`, `train/train` and `train_gt/train_gt`, `imagesTr` and `labelsTr`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orchestrator.data.sources.folders import is_image
from orchestrator.data.sources.match import part_in_two
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
        "groundtruth",
        "groundtruths",
        "labels",
        "label",
        "annotations",
        "annotation",
    ),
    *("ann", "anns", "annot", "annots", "segmentations", "segmentation", "segs", "seg"),
}
FORMATS = {  # say nothing beside such a word
    *("dir", "folder", "files", "png", "jpg", "jpeg", "bmp", "tif", "tiff", "class", "object"),
}
SPLITS = {"train", "training", "tr", "val", "valid", "validation", "test", "testing", "ts", "dev"}
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
EVIDENT = re.compile(  # of a patient, a video or a lesion, with its number: patient0, Patient_A3, seq2_neg, sub-01
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
class Spot:
    """How the path of a folder reads."""

    kind: Kind
    place: Place  # what is left of its names without the words
    depth: (
        int  # how many names of `place` stand before or in the word; later ones lie below images/ or masks/
    )


@dataclass(frozen=True)
class OwnSet:
    """A folder of images with the folders that could hold its masks; none is a folder of images alone."""

    images: str
    masks: tuple[str, ...]
    spot: Spot


def read_path(folder: str) -> Spot:
    """`train/images/p1` is images at (train, p1), of which one name stands before the word."""
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
    return Spot(kind, tuple(place), depth if kind else len(place))


def _read_name(name: str) -> tuple[Kind, str]:
    """`train_gt` is masks of train, `Ground Truth` masks, `polyps` images where that is the whole name."""
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
    """Folders of images, each with the folders that its masks may lie in; `images` and `masks` are the user's."""
    pictures = {folder: [path for path in paths if is_image(path)] for folder, paths in files.items()}
    pictures = {folder: paths for folder, paths in pictures.items() if paths}
    # What all paths share says nothing: Kvasir-SEG/ is no folder of masks.
    above = num_common([tuple(folder.split("/")) for folder in pictures])
    spots = {folder: _spot(folder, above, images, masks) for folder in pictures}
    by_place: dict[tuple[Kind, Place], list[str]] = defaultdict(list)
    for folder, spot in spots.items():
        by_place[spot.kind, _folded(spot.place)].append(folder)
    found = []
    for folder, spot in spots.items():
        place = _folded(spot.place)
        if spot.kind == "masks" or (images is not None and spot.kind != "images"):
            continue
        drawn = by_place["masks", place]
        if images is not None and images == masks:
            drawn = [folder]
        elif not drawn and spot.kind == "images":
            drawn = _one_deeper(by_place, place) or by_place["masks", place[: spot.depth]]
        if (spot.kind == "images" and drawn) or (drawn and not by_place["images", place]):
            found.append(OwnSet(folder, tuple(drawn), spot))
        elif masks is None and part_in_two(pictures[folder], pattern)[1]:
            found.append(OwnSet(folder, (folder,), spot))
    return found + _alone(spots, found, images)


def _spot(folder: str, above: int, images: str | None, masks: str | None) -> Spot:
    """As the path reads below the first `above` names; folders that the user names are what they are said to be."""
    options = (("images", images, masks), ("masks", masks, images))
    for kind, named, other in sorted(
        options, key=lambda option: -len(option[1] or "")
    ):  # --images . --masks masks
        if named is not None and (folder == named or not named or folder.startswith(f"{named}/")):
            below = Path(folder).relative_to(named or ".").parts
            upper = () if other is not None else read_path(_below(named.rpartition("/")[0], above)).place
            return Spot("images" if kind == "images" else "masks", (*upper, *below), len(upper))
    spot = read_path(_below(folder, above))
    given = {"images": images, "masks": masks}.get(spot.kind)
    return spot if given is None else Spot("", (folder,), 1)


def _below(folder: str, above: int) -> str:
    return "/".join(folder.split("/")[above:])


def _one_deeper(by_place: Mapping[tuple[Kind, Place], list[str]], place: Place) -> list[str]:
    """masks/0/ beside images/, as sets of several classes have it."""
    return [
        folder
        for (kind, other), folders in by_place.items()
        for folder in folders
        if kind == "masks" and other[:-1] == place and not by_place.get(("images", other))
    ]


def _alone(spots: Mapping[str, Spot], found: Sequence[OwnSet], images: str | None) -> list[OwnSet]:
    """Folders of images without masks that are named, or lie among such with masks: they may show no polyp."""
    taken = {folder for own in found for folder in (own.images, *own.masks)}
    roots = {own.spot.place[: own.spot.depth] for own in found if own.spot.kind == "images"}
    siblings = {(own.spot.kind, own.spot.place[:-1]) for own in found if _is_evident(own.spot.place[-1:])}

    def among(spot: Spot) -> bool:
        below = spot.kind == "images" and spot.place[: spot.depth] in roots and len(spot.place) > spot.depth
        return below or ((spot.kind, spot.place[:-1]) in siblings and _is_evident(spot.place[-1:]))

    return [
        OwnSet(folder, (), spot)
        for folder, spot in spots.items()
        if folder not in taken and (among(spot) or (images is not None and spot.kind == "images"))
    ]


def _is_evident(name: Place) -> bool:
    return bool(name and EVIDENT.fullmatch(name[0]))


def _folded(place: Place) -> Place:
    return tuple(folded(name) for name in place)


@dataclass(frozen=True)
class Said:
    """What the names of folders say about the images inside."""

    part: str
    group: str
    center: str
    place: str  # all that is left of the path


def said_by(own: OwnSet, common: int, groups: str) -> Said:
    """Part, group and center; `common` first names are those of all sets. `groups` is folders, none or ""."""
    names = own.spot.place[common:]
    depth = max(0, own.spot.depth - common)
    free = [name for name in names if not is_split(name)]
    evident = next((n for n, name in enumerate(free) if EVIDENT.fullmatch(name)), None)
    chosen = free if groups == "folders" else free[: evident + 1] if evident is not None else []
    group = "" if groups == "none" else composed("_".join(chosen))
    center = next((name for name in free if CENTER.fullmatch(name)), "")
    no_part = {*(chosen if groups != "none" else free[evident:] if evident is not None else []), center}
    part = [name for n, name in enumerate(names) if is_split(name) or (n < depth and name not in no_part)]
    return Said("/".join(part), group, center, "/".join(names))


def is_split(name: str) -> bool:
    """Whether a folder's name says train, val or test, as `TrainDataset` does."""
    words = [word.lower() for word in WORD.findall(name) if word.isalpha()]
    return bool(words) and set(words) <= SPLITS | {"set", "data", "dataset"} and bool(SPLITS & set(words))


def num_common(places: Sequence[Place]) -> int:
    """How many first names all places share; all of them if there is one place."""
    count = 0
    for names in zip(*places, strict=False):
        if len(set(names)) > 1:
            break
        count += 1
    return count
