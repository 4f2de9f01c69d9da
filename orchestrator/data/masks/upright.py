"""The rotation of a mask that matches its image, where EXIF tags of either say that they are rotated.

A mask may have been drawn on the frame as viewers show it, or on the stored pixels, which is what most annotation
tools and loaders read. With equal tags both are the same; otherwise sizes may decide, or the user.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from orchestrator.data.images import SIDEWAYS, turned

Frame = tuple[int, int, int]  # height and width as stored, and the EXIF orientation
ALIKE = "alike"
OWN, STORED = "apply", "ignore"  # each file by its own tag; the mask by its image's tag
BY_SIZE = " by size"
OPEN, MISFIT = "open", "misfit"


@dataclass(frozen=True)
class Turn:
    """The EXIF orientation that is applied to a mask, and the reason for it: "" if no tag rotates anything."""

    orientation: int
    known: str = ""


def turn_of(image: Frame, mask: Frame, polyp: np.ndarray, choice: str) -> Turn:
    """The orientation to apply to `polyp` (H, W, as stored); `choice`: OWN, STORED or ""."""
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
    """Ambiguous EXIF orientations of a set, with the remedy; `known` and `tags` (image, mask) by stem."""
    undecided = [stem for stem, how in known.items() if how == OPEN]
    if not undecided:
        return []
    examples = ", ".join(f"{stem} (image {tags[stem][0]}, mask {tags[stem][1]})" for stem in undecided[:3])
    more = f" and {len(undecided) - 3} more" if len(undecided) > 3 else ""
    return [
        f"EXIF: the Orientation of image and mask differs in {_pairs(len(undecided))}, and sizes do not decide which "
        f"is right: {examples}{more}; choose --exif ignore (masks were drawn on the stored pixels, as Pillow and "
        "most tools read them, so each is rotated like its image) or --exif apply (masks were drawn on upright frames, "
        f"as viewers and OpenCV show them, so each is rotated by its own tag only){_others(known)}"
    ]


def _others(known: Mapping[str, str]) -> str:
    counts = [
        f"{count} on {where}"
        for how, where in ((STORED, "stored pixels"), (OWN, "upright frames"))
        if (count := sum(one == how + BY_SIZE for one in known.values()))
    ]
    return f"; of the pairs whose sizes decide, masks were drawn: {', '.join(counts)}" if counts else ""


def turn_remarks(known: Mapping[str, str]) -> list[str]:
    """One sentence for each kind of rotation that was applied, with the reason."""
    texts = {
        ALIKE: "image and mask have the same Orientation, and both are rotated upright",
        OWN: "each image and mask is rotated by its own Orientation (--exif apply)",
        STORED: "each mask is rotated like its image (--exif ignore)",
        OWN
        + BY_SIZE: "each image and mask is rotated by its own Orientation, since only this fits their sizes",
        STORED + BY_SIZE: "each mask was drawn on the stored pixels, since only this fits their sizes, "
        "and is rotated like its image",
    }
    counts = {how: sum(one == how for one in known.values()) for how in texts}
    return [f"EXIF, {_pairs(count)}: {texts[how]}" for how, count in counts.items() if count]


def _pairs(count: int) -> str:
    return f"{count} pair{'s' * (count != 1)}"
