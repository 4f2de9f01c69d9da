"""How a mask is turned to lie on its image, where EXIF tags of one of the two, or of both, say that they are turned.

A mask may have been drawn on the frame as viewers show it, or on the stored pixels, which is what most annotation
tools and loaders read. Where both files bear the same tag that is the same; otherwise sizes may tell, or the user.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from orchestrator.data.images import SIDEWAYS, turned

Frame = tuple[int, int, int]  # height and width as stored, and the EXIF orientation
ALIKE = "alike"
OWN, STORED = "apply", "ignore"  # each by its own tag; the mask by its image's
BY_SIZE = " by size"
OPEN, MISFIT = "open", "misfit"


@dataclass(frozen=True)
class Turn:
    """The orientation by which a mask is turned, and how that is known: "" where no tag turns anything."""

    orientation: int
    known: str = ""


def turn_of(image: Frame, mask: Frame, polyp: np.ndarray, choice: str) -> Turn:
    """`choice`: OWN, STORED or ""; polyp (H, W) is not turned yet."""
    by_image, by_mask = image[2], mask[2]
    if by_image == by_mask:
        return Turn(by_mask, ALIKE if by_mask != 1 else "")
    own, stored = (_upright(mask, turn) == _upright(image, by_image) for turn in (by_mask, by_image))
    if own and stored:
        if np.array_equal(turned(polyp, by_mask), turned(polyp, by_image)):
            return Turn(by_mask)
        return Turn(by_image if choice == STORED else by_mask, choice or OPEN)
    if own or stored:
        return Turn(by_mask, OWN + BY_SIZE) if own else Turn(by_image, STORED + BY_SIZE)
    return Turn(by_mask, MISFIT)


def _upright(frame: Frame, orientation: int) -> tuple[int, int]:
    return frame[:2][::-1] if orientation in SIDEWAYS else frame[:2]


def turn_problems(known: Mapping[str, str], tags: Mapping[str, tuple[int, int]]) -> list[str]:
    """What EXIF leaves open in a set, with the remedy; `known` and `tags` (image, mask) by stem."""
    undecided = [stem for stem, how in known.items() if how == OPEN]
    if not undecided:
        return []
    examples = ", ".join(f"{stem} (image {tags[stem][0]}, mask {tags[stem][1]})" for stem in undecided[:3])
    more = f" and {len(undecided) - 3} more" if len(undecided) > 3 else ""
    return [
        f"EXIF: the Orientation of image and mask differs in {_pairs(len(undecided))}, and sizes do not tell which "
        f"is meant: {examples}{more}; name it with --exif ignore (masks were drawn on the stored pixels, as Pillow and "
        "most tools read them, so each is turned as its image is) or --exif apply (masks were drawn on upright frames, "
        f"as viewers and OpenCV show them, so each is turned by its own tag only){_others(known)}"
    ]


def _others(known: Mapping[str, str]) -> str:
    counts = [
        f"{count} on {where}"
        for how, where in ((STORED, "stored pixels"), (OWN, "upright frames"))
        if (count := sum(one == how + BY_SIZE for one in known.values()))
    ]
    return f"; of the pairs whose sizes tell, masks were drawn: {', '.join(counts)}" if counts else ""


def turn_remarks(known: Mapping[str, str]) -> list[str]:
    """What was turned, and why so: one sentence each."""
    texts = {
        ALIKE: "image and mask bear the same Orientation, and both are turned upright",
        OWN: "each image and mask is turned by its own Orientation, as --exif apply says",
        STORED: "each mask is turned as its image is, as --exif ignore says",
        OWN
        + BY_SIZE: "each image and mask is turned by its own Orientation, as nothing else fits their sizes",
        STORED + BY_SIZE: "each mask was drawn on the stored pixels, as nothing else fits their sizes, "
        "and is turned as its image is",
    }
    counts = {how: sum(one == how for one in known.values()) for how in texts}
    return [f"EXIF, {_pairs(count)}: {texts[how]}" for how, count in counts.items() if count]


def _pairs(count: int) -> str:
    return f"{count} pair{'s' * (count != 1)}"
