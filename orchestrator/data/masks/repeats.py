"""Masks that several images of a set share: as a rule something was mixed up.

Frames without a polyp share an empty mask rightly. Copies of one frame that differ in brightness share theirs rightly,
too, so this is a remark, and a refusal only where nearly all images have one and the same mask.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from orchestrator.data.masks.look import Facts
from orchestrator.data.masks.mask_rule import MaskRule

NEARLY_ALL = 0.9  # share of the images with a polyp
FEW = 50  # images below which one mask for all is no refusal: a short clip may well have one
SHOWN = 3  # masks, and images of each, in a message


def problems_of_repeats(facts: Mapping[str, Facts], rule: MaskRule) -> list[str]:
    """One mask for nearly all images, with the way out."""
    drawn = {stem: one for stem, one in facts.items() if one.polyp_fraction}
    largest = max(_shared_masks(drawn), key=len, default=[])
    if rule.wanted or len(largest) < max(FEW, NEARLY_ALL * len(drawn)):
        return []
    return [
        f"{len(largest)} of {len(drawn)} images with a polyp have one and the same mask ({_some(largest)}), pixel for "
        "pixel; export the masks again, one for each image; if that is really so, use --mask-values 128-255"
    ]


def remarks_on_repeats(facts: Mapping[str, Facts]) -> list[str]:
    """Masks that several images share, with their names."""
    shared = _shared_masks({stem: one for stem, one in facts.items() if one.polyp_fraction})
    if not shared:
        return []
    return [
        f"{sum(map(len, shared))} images share a mask, pixel for pixel, with other images ({_listed(shared)}); see "
        "whether these are copies of one frame, or masks were mixed up"
    ]


def _shared_masks(drawn: Mapping[str, Facts]) -> list[list[str]]:
    """Stems of each mask that several images have, most first; of images that are the same one is named."""
    by_mask: dict[str, dict[str, str]] = defaultdict(dict)
    for stem, one in drawn.items():
        by_mask[one.polyp].setdefault(one.pixels, stem)
    shared = [list(stems.values()) for stems in by_mask.values() if len(stems) > 1]
    return sorted(shared, key=lambda stems: -len(stems))


def _listed(groups: Sequence[Sequence[str]]) -> str:
    rest = f"; and {len(groups) - SHOWN} more such" if len(groups) > SHOWN else ""
    return "; ".join(_some(stems) for stems in groups[:SHOWN]) + rest


def _some(stems: Sequence[str]) -> str:
    return ", ".join(stems[:SHOWN]) + (f" and {len(stems) - SHOWN} more" if len(stems) > SHOWN else "")
